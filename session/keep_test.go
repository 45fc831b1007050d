package session_test

import (
	"os"
	"path/filepath"

	"nat64d/table"
)

// folder is table.Files in a directory.
type folder string

// File implements table.Files.
func (f folder) File(name string, _ int) (int, bool) {
	file, err := os.Create(filepath.Join(string(f), name))
	if err != nil {
		panic(err)
	}
	keepOpen = append(keepOpen, file)
	return int(file.Fd()), true
}

var keepOpen []*os.File

// keepIn is where the tables of the tests keep their entries: in a directory on a tmpfs that NAT64D_KEEP_IN names, so that
// benchmarks can compare, or nowhere.
var keepIn = func() table.Files {
	if dir := os.Getenv("NAT64D_KEEP_IN"); dir != "" {
		return folder(dir)
	}
	return nil
}()
