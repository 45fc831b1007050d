//go:build linux

package guest

import (
	"archive/tar"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// writePayload writes an archive of the files, by their names in the guest, which reads it as a disk.
func writePayload(dir string, files map[string]string) (name string, err error) {
	f, err := os.CreateTemp(dir, "payload-")
	if err != nil {
		return "", err
	}
	return f.Name(), errors.Join(archive(f, files), f.Close())
}

func archive(w io.Writer, files map[string]string) error {
	t := tar.NewWriter(w) // its blocks are sectors
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(t, name, files[name]); err != nil {
			return err
		}
	}
	return t.Close()
}

func add(t *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: strings.TrimPrefix(name, "/"), Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}
