package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Paths in the image. The programs are where make install puts them.
const (
	programs     = "usr/local/sbin"
	certificates = "etc/ssl/certs/ca-certificates.crt" // the first file that crypto/x509 looks for
)

// options are what the image contains besides the programs.
type options struct {
	name, version string
	created       time.Time
}

// newIndex returns the images of all platforms. They share the layer with the certificates.
func newIndex(o options, builds []build) (v1.ImageIndex, error) {
	base, err := newLayer(baseFiles())
	if err != nil {
		return nil, err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, b := range builds {
		image, err := newImage(o, b, base)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", b.platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &b.platform}})
	}
	return index, nil
}

func newImage(o options, b build, base v1.Layer) (v1.Image, error) {
	files, err := programFiles(b.dir)
	if err != nil {
		return nil, err
	}
	layer, err := newLayer(files)
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS:           b.platform.OS,
		Architecture: b.platform.Architecture,
		Created:      v1.Time{Time: o.created},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/" + programs + "/nat64d"},
			Cmd:        []string{"-c", "/etc/nat64d/nat64d.yaml"},
			Env:        []string{"PATH=/" + programs},
			StopSignal: "SIGTERM",
			Labels: map[string]string{
				"org.opencontainers.image.title":   "nat64d",
				"org.opencontainers.image.version": o.version,
			},
		},
	})
	if err != nil {
		return nil, err
	}
	history := v1.History{Created: v1.Time{Time: o.created}, CreatedBy: "make container"}
	return mutate.Append(image, mutate.Addendum{Layer: base, History: history}, mutate.Addendum{Layer: layer, History: history})
}

// file is an entry of a layer; without data it is a directory.
type file struct {
	path string
	mode int64
	data []byte
}

// baseFiles returns the mount points and the certificate authorities of Mozilla, which DNS64 needs for upstreams over TLS.
// They come from a Go module, so that they do not depend on the machine that makes the image. The image has no /etc/passwd:
// nat64d uses numbers where a user has no name.
func baseFiles() []file {
	var pems bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // a file cannot express the constraint
			_ = pem.Encode(&pems, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // bytes.Buffer returns no error
		}
	}
	return []file{
		{"etc/", 0o755, nil}, {"etc/nat64d/", 0o755, nil}, {"etc/ssl/", 0o755, nil}, {"etc/ssl/certs/", 0o755, nil},
		{certificates, 0o644, pems.Bytes()},
		{"run/", 0o755, nil}, {"run/nat64d/", 0o755, nil},
	}
}

func programFiles(dir string) ([]file, error) {
	list := []file{{"usr/", 0o755, nil}, {"usr/local/", 0o755, nil}, {programs + "/", 0o755, nil}}
	for _, name := range []string{"nat64ctl", "nat64d"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		list = append(list, file{programs + "/" + name, 0o755, data})
	}
	return list, nil
}

// newLayer returns a layer of the files, all with the time 0, so that its digest depends on nothing else.
func newLayer(files []file) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.path, Mode: f.mode, Size: int64(len(f.data)), Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
		if f.data == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}
