package config

import (
	"reflect"

	"github.com/spf13/pflag"
)

// Overrides are what the command line says instead of the files and the environment.
type Overrides struct {
	Flags *pflag.FlagSet // those of AddFlags that were given count; nil: none were
	DNS64 bool           // DNS64 is on and runs alone: no interface needs a name
}

// flags are the flags that set a key.
var flags = []struct{ name, key, help string }{
	{"v6", "interfaces.v6.name", "interface in the IPv6-only network"},
	{"v4", "interfaces.v4.name", "interface in the IPv4 network; may be the same"},
	{"pool6", "pool6", "NAT64 prefix (default 64:ff9b::/96); may be repeated"},
	{"pool4", "pool4", "IPv4 address and ports to translate to, such as 10.0.2.15:7000-8000; may be repeated"},
	{"socket", "api.socket", "control socket (default /run/nat64d/nat64d.sock)"},
	{"engine", "interfaces.engine", "how packets are moved: auto, ring, mmsg or simple"},
	{"offloads", "interfaces.offloads", "who sets the offloads of the interfaces: leave or manage"},
	{"force", "host.force", "take ports of pool4 even if the host needs them"},
	{"share-interfaces", "host.share_interfaces", "start even if another nat64d carries packets on the same interfaces"},
	{"log-level", "logging.level", "debug, info, warn or error"},
}

// AddFlags declares the flags that set a key.
func AddFlags(fs *pflag.FlagSet) {
	layout := fresh()
	for _, f := range flags {
		help := f.help
		if f.key != f.name {
			help += " (" + f.key + ")"
		}
		switch layout.at(f.key).Kind() {
		case reflect.Bool:
			fs.Bool(f.name, false, help)
		case reflect.Slice:
			fs.StringArray(f.name, nil, help)
		default:
			fs.String(f.name, "", help)
		}
	}
}

// override gives keys the values of their flags. A flag without text counts as not given, like an empty variable. One that
// was not given must not be bound: viper would take its default for a value.
func (d *document) override(o Overrides) {
	for _, f := range flags {
		if o.Flags == nil {
			break
		}
		if flag := o.Flags.Lookup(f.name); flag != nil && flag.Changed && flag.Value.String() != "" {
			_ = d.settings.BindPFlag(path(f.key), flag) // it fails only without a flag
			d.supersede(f.key, "--"+f.name)
		}
	}
	if o.DNS64 {
		d.settings.Set(path("dns64.enabled"), "true")
		d.supersede("dns64.enabled", "nat64d dns64")
	}
}
