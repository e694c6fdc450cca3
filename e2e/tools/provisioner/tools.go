//go:build tools

// Package tools names the main package to build, so that go.mod and go.sum cover what it needs.
package tools

import (
	_ "github.com/kubernetes-csi/external-provisioner/v6/cmd/csi-provisioner"
)
