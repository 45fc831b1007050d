package config

import _ "embed" // for the reference

//go:embed nat64d.yaml
var reference string

// Reference returns the reference configuration file: every key with its default and what it means.
func Reference() string { return reference }
