// Command container writes the image of nat64d as an archive in the OCI image layout, for several platforms and without a
// container engine. The same programs and flags result in the same bytes.
//
//	container -o nat64d.tar -name nat64d:latest linux/amd64=bin/container/amd64 linux/arm64=bin/container/arm64
//
// Each argument names a platform and the directory with its nat64d and nat64ctl.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	var (
		o       options
		file    = flag.String("o", "nat64d.tar", "write the archive to this `file`")
		created = flag.Int64("created", 0, "time of the image in `seconds` since 1970, such as that of the commit")
	)
	flag.StringVar(&o.name, "name", "nat64d:latest", "`name` that containerd and Podman give the image")
	flag.StringVar(&o.version, "version", "unknown", "`version` of nat64d")
	flag.Parse()
	o.created = time.Unix(*created, 0).UTC()
	digest, err := run(o, *file, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
	fmt.Printf("%s  %s\n", digest, *file)
}

// run writes the archive and returns the digest of the index of its platforms.
func run(o options, file string, args []string) (v1.Hash, error) {
	builds, err := parseBuilds(args)
	if err != nil {
		return v1.Hash{}, err
	}
	index, err := newIndex(o, builds)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := writeArchive(file, o.name, index); err != nil {
		return v1.Hash{}, err
	}
	return index.Digest()
}

// build is the directory of the programs for one platform.
type build struct {
	platform v1.Platform
	dir      string
}

func parseBuilds(args []string) (list []build, err error) {
	for _, arg := range args {
		name, dir, ok := strings.Cut(arg, "=")
		system, architecture, named := strings.Cut(name, "/")
		if !ok || !named || dir == "" || system != "linux" || architecture == "" {
			return nil, fmt.Errorf("%q: want a platform and a directory, such as linux/amd64=bin/container/amd64", arg)
		}
		list = append(list, build{v1.Platform{OS: system, Architecture: architecture}, dir})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no platform: name at least one, such as linux/amd64=bin/container/amd64")
	}
	return list, nil
}
