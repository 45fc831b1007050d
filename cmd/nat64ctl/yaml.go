package main

import (
	"bytes"
	"encoding/json"
	"io"

	"go.yaml.in/yaml/v3"
)

// yamlOutput is an output for YAML with the names, the values and the order of JSON.
type yamlOutput struct{ io.Writer }

// print writes one object.
func (y yamlOutput) print(v any) error {
	node, err := yamlOf(v)
	if err != nil {
		return err
	}
	return y.encode(node)
}

func (y yamlOutput) encode(node any) error {
	enc := yaml.NewEncoder(y)
	enc.SetIndent(2)
	if err := enc.Encode(node); err != nil {
		return err
	}
	return enc.Close()
}

// yamlOf returns the YAML of what json.Marshal makes of a value. JSON is YAML in another style, so the style is all that changes.
func yamlOf(v any) (*yaml.Node, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &document); err != nil {
		return nil, err
	}
	block(&document)
	return document.Content[0], nil
}

// block removes the style of JSON. The encoder quotes what would otherwise be no string. Empty lists and objects stay as they are.
func block(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode || len(n.Content) > 0 {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}

// yamlPrinter writes a list with an item for each entry, without holding the entries.
type yamlPrinter[T any] struct {
	out  yamlOutput
	buf  bytes.Buffer
	some bool
}

func (p *yamlPrinter[T]) add(e T) error {
	node, err := yamlOf(e)
	if err != nil {
		return err
	}
	p.some = true
	if err := (yamlOutput{&p.buf}).encode([]*yaml.Node{node}); err != nil {
		return err
	}
	if p.buf.Len() < 64<<10 {
		return nil
	}
	return p.flush()
}

func (p *yamlPrinter[T]) flush() error {
	_, err := p.buf.WriteTo(p.out)
	return err
}

func (p *yamlPrinter[T]) end() error {
	if !p.some {
		p.buf.WriteString("[]\n")
	}
	return p.flush()
}
