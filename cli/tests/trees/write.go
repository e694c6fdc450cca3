// Writes the folder given first as an archive in the format given second, as the engines' archivers do with Go's own writer: further names of
// a file are links to its first, sockets are left out, attributes are records.
package main

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func try(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	folder, kind := os.Args[1], os.Args[2]
	format := map[string]tar.Format{"PAX": tar.FormatPAX, "GNU": tar.FormatGNU, "USTAR": tar.FormatUSTAR}[kind]
	out, err := os.Create(os.Args[3])
	try(err)
	writer := tar.NewWriter(out)
	first := map[[2]uint64]string{}
	try(filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		try(err)
		info, err := entry.Info()
		try(err)
		if info.Mode()&fs.ModeSocket != 0 {
			return nil
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			link, err = os.Readlink(path)
			try(err)
		}
		header, err := tar.FileInfoHeader(info, link)
		try(err)
		below, err := filepath.Rel(folder, path)
		try(err)
		header.Name = below
		if info.IsDir() {
			header.Name += "/"
		}
		header.Format, header.Uname, header.Gname = format, "", ""
		if kind != "PAX" {
			header.ModTime = header.ModTime.Truncate(1e9)
		}
		stat := info.Sys().(*syscall.Stat_t)
		key := [2]uint64{stat.Dev, stat.Ino}
		if known, ok := first[key]; ok && !info.IsDir() {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, known, 0
		} else {
			first[key] = header.Name
			if kind == "PAX" {
				header.PAXRecords = attributes(path, info)
			}
		}
		try(writer.WriteHeader(header))
		if header.Typeflag == tar.TypeReg {
			file, err := os.Open(path)
			try(err)
			defer file.Close()
			_, err = io.Copy(writer, file)
			try(err)
		}
		return nil
	}))
	try(writer.Close())
	try(out.Close())
}

// Attributes of files and folders: for links there is no call in the standard library.
func attributes(path string, info fs.FileInfo) map[string]string {
	found := map[string]string{}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return found
	}
	names := make([]byte, 65536)
	length, err := syscall.Listxattr(path, names)
	try(err)
	start := 0
	for at := 0; at < length; at++ {
		if names[at] == 0 {
			value := make([]byte, 65536)
			size, err := syscall.Getxattr(path, string(names[start:at]), value)
			try(err)
			found["SCHILY.xattr."+string(names[start:at])] = string(value[:size])
			start = at + 1
		}
	}
	return found
}
