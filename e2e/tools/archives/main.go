// Archives as Go programs write and read them: by Go's own library, and by the module with which Docker does. The test
// `cli/tests/archive_matrix.rs` compares what went in with what comes out.
//
//	archives write PAX|GNU|docker FOLDER ARCHIVE
//	archives read go|docker FOLDER ARCHIVE
package main

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	archive "github.com/moby/go-archive"
	"github.com/moby/go-archive/chrootarchive"
	"golang.org/x/sys/unix"
)

const attribute = "SCHILY.xattr."

func try(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	verb, how, folder, file := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	switch {
	case verb == "write" && how == "docker":
		writeAsDocker(folder, file)
	case verb == "write":
		write(folder, map[string]tar.Format{"PAX": tar.FormatPAX, "GNU": tar.FormatGNU}[how], file)
	case how == "docker":
		in, err := os.Open(file)
		try(err)
		try(chrootarchive.Untar(in, folder, &archive.TarOptions{}))
	default:
		read(folder, file)
	}
}

func writeAsDocker(folder, file string) {
	out, err := os.Create(file)
	try(err)
	stream, err := archive.TarWithOptions(folder, &archive.TarOptions{IncludeSourceDir: true})
	try(err)
	_, err = io.Copy(out, stream)
	try(err)
	try(out.Close())
}

// Further names of a file are links to its first, sockets are left out, attributes are records.
func write(folder string, format tar.Format, file string) {
	out, err := os.Create(file)
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
		if format != tar.FormatPAX {
			header.ModTime = header.ModTime.Truncate(1e9)
		}
		stat := info.Sys().(*syscall.Stat_t)
		key := [2]uint64{stat.Dev, stat.Ino}
		if known, ok := first[key]; ok && !info.IsDir() {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, known, 0
		} else {
			first[key] = header.Name
			if format == tar.FormatPAX {
				header.PAXRecords = attributes(path)
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

func attributes(path string) map[string]string {
	found := map[string]string{}
	names := make([]byte, 65536)
	length, err := unix.Llistxattr(path, names)
	try(err)
	for _, name := range strings.FieldsFunc(string(names[:length]), func(char rune) bool { return char == 0 }) {
		value := make([]byte, 65536)
		size, err := unix.Lgetxattr(path, name, value)
		try(err)
		found[attribute+name] = string(value[:size])
	}
	return found
}

// What a program does that takes every header at its word. Access control lists are a matter of other programs.
func read(folder, file string) {
	in, err := os.Open(file)
	try(err)
	reader := tar.NewReader(in)
	folders := []*tar.Header{}
	for {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		try(err)
		path := filepath.Join(folder, header.Name)
		mode := uint32(header.Mode & 0o7777)
		switch header.Typeflag {
		case tar.TypeDir:
			if err := os.Mkdir(path, 0o700); !os.IsExist(err) {
				try(err)
			}
			folders = append(folders, header)
			continue
		case tar.TypeLink:
			try(os.Link(filepath.Join(folder, header.Linkname), path))
			continue
		case tar.TypeSymlink:
			try(os.Symlink(header.Linkname, path))
		case tar.TypeReg, tar.TypeGNUSparse:
			out, err := os.Create(path)
			try(err)
			_, err = io.Copy(out, reader)
			try(err)
			try(out.Close())
		case tar.TypeFifo:
			try(unix.Mkfifo(path, mode))
		case tar.TypeChar, tar.TypeBlock:
			kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[header.Typeflag]
			try(unix.Mknod(path, kind|mode, int(unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor)))))
		default:
			try(fmt.Errorf("%s is of the kind %q", header.Name, header.Typeflag))
		}
		give(path, header)
	}
	for at := len(folders) - 1; at >= 0; at-- {
		give(filepath.Join(folder, folders[at].Name), folders[at])
	}
}

func give(path string, header *tar.Header) {
	try(os.Lchown(path, header.Uid, header.Gid))
	for key, value := range header.PAXRecords {
		if name, found := strings.CutPrefix(key, attribute); found {
			try(unix.Lsetxattr(path, name, []byte(value), 0))
		}
	}
	if header.Typeflag != tar.TypeSymlink {
		try(unix.Chmod(path, uint32(header.Mode&0o7777)))
	}
	time, err := unix.TimeToTimespec(header.ModTime)
	try(err)
	try(unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{time, time}, unix.AT_SYMLINK_NOFOLLOW))
}
