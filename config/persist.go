package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// dropIn is the file in conf.d that Persist writes. The number lets an operator add files that override it.
const dropIn = "90-nat64ctl.yaml"

const dropInHead = "# Written by nat64ctl config set --persist. Edit it as you like: other keys and comments stay.\n"

// draft is a drop-in that has not been written yet.
type draft struct{ name, text string }

// Persist saves the value of a key for the next start. It writes the value into a drop-in next to the file at path and
// returns the path of the drop-in. The file is replaced atomically. Persist writes nothing if the configuration would then be
// refused, or if a later file, a variable or a flag overrides the key. Path and overrides are those that were passed to Load.
// Two goroutines must not call it at the same time.
func (c *Config) Persist(path string, o Overrides, name string) (string, error) {
	k, _, err := find(name)
	if err != nil {
		return "", err
	}
	if path == "" {
		return "", errors.New("nat64d was started without a configuration file, so no value can be kept; start it with -c FILE")
	}
	target := filepath.Join(DropIns(path), dropIn)
	before, err := os.ReadFile(target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	value := c.source.at(k.Name)
	after, err := edited(before, k.Name, valueNode(text(value), value.Kind() == reflect.Slice))
	if err != nil {
		return "", fmt.Errorf("%s: %w", target, err)
	}
	if err := effective(path, o, k.Name, text(value), string(after)); err != nil {
		return "", fmt.Errorf("nothing was kept: %w", err)
	}
	return target, replaceFile(target, after)
}

// effective loads the configuration with the new text of the drop-in, and returns an error if the key does not get the value.
func effective(path string, o Overrides, key, value, text string) error {
	d := newDocument()
	d.draft = draft{dropIn, text}
	c, err := d.load(path, o)
	if err != nil {
		return err
	}
	if got, _ := c.Get(key); got != value {
		return fmt.Errorf("%s is set to %s by %s, which counts more than %s; change it there", key, got, d.position(key).place, dropIn)
	}
	return nil
}

// edited returns the text of a file after replacing or adding the value of one key.
func edited(text []byte, key string, value *yaml.Node) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	if len(root.Content) == 0 { // no file, or comments only
		root = yaml.Node{Kind: yaml.DocumentNode, HeadComment: strings.TrimSpace(dropInHead), Content: []*yaml.Node{{Kind: yaml.MappingNode}}}
	}
	n := root.Content[0]
	path := strings.Split(key, ".")
	for _, name := range path[:len(path)-1] {
		sub := child(n, name)
		if sub.Kind != yaml.MappingNode {
			*sub = yaml.Node{Kind: yaml.MappingNode} // a section without entries
		}
		n = sub
	}
	leaf := child(n, path[len(path)-1])
	value.HeadComment, value.LineComment, value.FootComment = leaf.HeadComment, leaf.LineComment, leaf.FootComment
	*leaf = *value
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	err := errors.Join(enc.Encode(&root), enc.Close())
	return b.Bytes(), err
}

// child returns the value of a key in a section, and adds the key if it is missing.
func child(section *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(section.Content); i += 2 {
		if section.Content[i].Value == name {
			return section.Content[i+1]
		}
	}
	section.Content = append(section.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, &yaml.Node{})
	return section.Content[len(section.Content)-1]
}

// valueNode returns a value as YAML. A scalar needs no tag, because Load reads its text.
func valueNode(text string, list bool) *yaml.Node {
	if !list {
		return &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, w := range split(text) {
		n.Content = append(n.Content, valueNode(w, false))
	}
	return n
}

// replaceFile replaces a file atomically: after a crash it has the old or the new content. The name of the temporary file
// begins with a dot, so Load ignores it.
func replaceFile(path string, text []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
