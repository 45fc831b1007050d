package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// imageConfig is the part of the configuration of an image that a runtime uses.
type imageConfig struct{ Entrypoint, Env []string }

// descriptor refers to a blob of an archive in the OCI image layout.
type descriptor struct {
	Digest   string
	Platform struct{ OS, Architecture string }
}

// blobs are the files of such an archive by their names.
type blobs map[string][]byte

// get decodes the blob of a descriptor.
func (b blobs) get(t *testing.T, d descriptor, into any) {
	t.Helper()
	if err := json.Unmarshal(b.data(d), into); err != nil {
		t.Fatalf("%s: %v", d.Digest, err)
	}
}

func (b blobs) data(d descriptor) []byte {
	return b["blobs/"+strings.ReplaceAll(d.Digest, ":", "/")]
}

// unpackImage unpacks the image for this machine, as a container engine does.
func unpackImage(t *testing.T, archive, into string) imageConfig {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := blobs{}
	untar(t, f, func(h *tar.Header, data []byte) { b[h.Name] = data })

	type list struct{ Manifests []descriptor }
	var archived, platforms list
	if err := json.Unmarshal(b["index.json"], &archived); err != nil || len(archived.Manifests) != 1 {
		t.Fatalf("index.json: %v: %s", err, b["index.json"])
	}
	b.get(t, archived.Manifests[0], &platforms)
	for _, d := range platforms.Manifests {
		if d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH {
			continue
		}
		var m struct {
			Config descriptor
			Layers []descriptor
		}
		b.get(t, d, &m)
		for _, layer := range m.Layers {
			unpackLayer(t, b.data(layer), into)
		}
		var c struct{ Config imageConfig }
		b.get(t, m.Config, &c)
		return c.Config
	}
	t.Fatalf("no image for %s: %+v", runtime.GOARCH, platforms)
	return imageConfig{}
}

func unpackLayer(t *testing.T, layer []byte, into string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	untar(t, z, func(h *tar.Header, data []byte) {
		path, mode := filepath.Join(into, h.Name), fs.FileMode(h.Mode)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, mode)
		} else {
			err = os.WriteFile(path, data, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// untar calls f for each entry of a tar file.
func untar(t *testing.T, r io.Reader, f func(h *tar.Header, data []byte)) {
	t.Helper()
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		f(h, data)
	}
}
