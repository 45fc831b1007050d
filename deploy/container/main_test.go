package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

var testOptions = options{name: "nat64d:test", version: "1.2", created: time.Unix(1700000000, 0).UTC()}

// write writes an archive of stand-ins for the programs of two platforms, and returns its path and its digest.
func write(t *testing.T, modified time.Time) (path string, digest v1.Hash) {
	t.Helper()
	dir := t.TempDir()
	var args []string
	for _, architecture := range []string{"amd64", "arm64"} {
		programs := filepath.Join(dir, architecture)
		if err := os.Mkdir(programs, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"nat64d", "nat64ctl"} {
			path := filepath.Join(programs, name)
			if err := os.WriteFile(path, []byte(name+architecture), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, modified, modified); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "linux/"+architecture+"="+programs)
	}
	path = filepath.Join(dir, "nat64d.tar")
	digest, err := run(testOptions, path, args)
	if err != nil {
		t.Fatal(err)
	}
	return path, digest
}

func TestArchiveIsReproducible(t *testing.T) {
	first, digest := write(t, testOptions.created)
	second, again := write(t, testOptions.created.Add(time.Hour))
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if digest != again || !bytes.Equal(a, b) {
		t.Errorf("two archives of the same programs differ: %v and %v", digest, again)
	}
}

// The archive is a valid layout with one named index, which has an image for each platform.
func TestArchiveIsValid(t *testing.T) {
	path, digest := write(t, testOptions.created)
	index := read(t, path)
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Manifests) != 1 || list.Manifests[0].Digest != digest ||
		list.Manifests[0].Annotations["io.containerd.image.name"] != testOptions.name {
		t.Fatalf("index.json names %+v", list.Manifests)
	}
	platforms, err := index.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(platforms); err != nil {
		t.Fatal(err)
	}
	if list, err = platforms.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.Manifests {
		names = append(names, m.Platform.String())
		image, err := platforms.Image(m.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, m.Platform.Architecture)
	}
	if want := []string{"linux/amd64", "linux/arm64"}; !slices.Equal(names, want) {
		t.Errorf("platforms %v, want %v", names, want)
	}
}

func checkImage(t *testing.T, image v1.Image, architecture string) {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != architecture || !c.Created.Time.Equal(testOptions.created) || c.Config.Labels["org.opencontainers.image.version"] != "1.2" {
		t.Errorf("configuration %+v", c)
	}
	files := extract(t, image)
	for _, name := range []string{"nat64d", "nat64ctl"} {
		if got := string(files["usr/local/sbin/"+name]); got != name+architecture {
			t.Errorf("%s contains %q", name, got)
		}
	}
	if c.Config.Entrypoint[0] != "/usr/local/sbin/nat64d" {
		t.Errorf("entry point %q", c.Config.Entrypoint)
	}
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files[certificates]) {
		t.Error("no certificates")
	}
}

// read unpacks the archive.
func read(t *testing.T, path string) v1.ImageIndex {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for name, data := range untar(t, f) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func extract(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	r := mutate.Extract(image)
	defer r.Close()
	return untar(t, r)
}

// untar returns the regular files of a tar file.
func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = data
	}
}

func TestArgumentsAreRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"linux/amd64"}, {"amd64=bin"}, {"windows/amd64=bin"}, {"linux/=bin"}, {"linux/amd64="}, {"linux/amd64=/nonexistent"}} {
		path := filepath.Join(t.TempDir(), "nat64d.tar")
		if _, err := run(testOptions, path, args); err == nil {
			t.Errorf("%q is accepted", args)
		} else if _, err := os.Stat(path); err == nil {
			t.Errorf("%q: an archive is left", args)
		}
	}
}
