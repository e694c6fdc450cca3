//go:build tools

// Package tools pins the CSI specification by go.sum.
package tools

import _ "github.com/container-storage-interface/spec/lib/go/csi"
