package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newSupportBundle(a *app) *cobra.Command {
	force := false
	c := &cobra.Command{
		Use:   "support-bundle FILE",
		Short: "collect what a bug report needs into a file",
		Long: `Write a tar.gz file with the configuration without secrets, the status, counters and findings of nat64d, the addresses, routes, rules
and neighbours of the machine, the nftables table of the guard, versions, and the last lines of the log. Read it before you send it: it has
addresses of your network. The file is written whole or not at all, and only its owner may read it. FILE - is the standard output.`,
		Example: `  nat64ctl support-bundle /tmp/nat64d.tar.gz`,
		Args:    arguments([]string{"FILE"}, nil),
		RunE: func(c *cobra.Command, args []string) error {
			if err := mayWrite(args[0], force); err != nil {
				return err
			}
			files, err := a.support(c.Context())
			if err != nil {
				return err
			}
			bundle, err := pack(files, time.Now())
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err = a.out.Write(bundle)
				return err
			}
			if err := writeWhole(args[0], bundle, force); err != nil {
				return err
			}
			if err := printAll(a, packedColumns, listed(files)); err != nil || a.format != formatTable {
				return err
			}
			_, err = fmt.Fprintf(a.out, "wrote %s: read it before you send it, because it has addresses of your network\n", args[0])
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "overwrite FILE")
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveDefault // names of files
	}
	return c
}

// mayWrite returns an error if the bundle would not become the file name.
func mayWrite(name string, force bool) error {
	info, err := os.Lstat(name)
	switch {
	case err != nil, name == "-": // writing reports what is wrong
		return nil
	case info.IsDir():
		return fmt.Errorf("%s is a directory: name a file in it, such as %s", name, filepath.Join(name, "nat64d.tar.gz"))
	case !info.Mode().IsRegular() && info.Mode().Type() != fs.ModeSymlink:
		return fmt.Errorf("%s is a device, a pipe or a socket, which a file would replace: name a file, or - for the standard output", name)
	case !force:
		return fmt.Errorf("%s exists: name another file, or overwrite it with --force", name)
	}
	return nil
}

// packed is a file in a bundle, as the command lists it.
type packed struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

var packedColumns = []column[packed]{
	{"BYTES", "bytes", func(p packed) string { return strconv.Itoa(p.Bytes) }, nil},
	{"FILE", "name", func(p packed) string { return p.Name }, nil},
}

func listed(files []control.SupportFile) (list []packed) {
	for _, f := range files {
		list = append(list, packed{f.Name, len(f.Text)})
	}
	return list
}

// support returns the files of the daemon, and the version of this program and of the distribution, whose file the daemon may not read.
func (a *app) support(ctx context.Context) ([]control.SupportFile, error) {
	files, err := a.client().Support(ctx)
	if err != nil {
		return nil, err
	}
	release, _ := os.ReadFile("/etc/os-release") // not every distribution has it
	return append(files, control.SupportFile{Name: "nat64ctl-version.txt", Text: words(ownVersion()) + "\n" + string(release)}), nil
}

// pack returns a compressed archive of files.
func pack(files []control.SupportFile, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: "nat64d-support/" + filepath.Base(f.Name), Mode: 0o600, Size: int64(len(f.Text)), ModTime: now}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.WriteString(t, f.Text); err != nil {
			return nil, err
		}
	}
	err := errors.Join(t.Close(), z.Close())
	return b.Bytes(), err
}

// writeWhole writes a file that only its owner may read, whole or not at all: it gets its name when it is complete.
func writeWhole(name string, content []byte, force bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".nat64d-support-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if force {
		return os.Rename(f.Name(), name)
	}
	if err := os.Link(f.Name(), name); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: name another file, or overwrite it with --force", name)
	} else if err != nil {
		return os.Rename(f.Name(), name) // a file system without links
	}
	return nil
}
