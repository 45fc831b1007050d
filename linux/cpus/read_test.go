//go:build linux

package cpus

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// write makes files below a directory.
func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// table is /proc/interrupts of a machine with two processors.
const table = `           CPU0       CPU1       
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 37:          0          0 PCI-MSIX-0000:00:02.0   0-edge      virtio2-config
 38:          0       4715 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:       5590          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 40:         10         20 PCI-MSIX-0000:00:04.0   0-edge      ens5-rx-0, other
 41:          7          0 PCI-MSIX-0000:00:04.0   1-edge      ens5-tx-0
 42:          7          0 PCI-MSIX-0000:00:04.0   1-edge      ens50-rx-0
NMI:          0          0   Non-maskable interrupts
ERR:          0
`

func TestReceptionIsReadFromProcAndSys(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, map[string]string{
		"proc/interrupts":                     table,
		"proc/irq/38/effective_affinity_list": "1\n",
		"proc/irq/38/smp_affinity_list":       "0-1\n",
		"proc/irq/39/effective_affinity_list": "0\n",
		"proc/irq/40/smp_affinity_list":       "0-1\n",
		"proc/irq/41/smp_affinity_list":       "0\n",

		"sys/devices/pci/0000:00:03.0/irq":                      "37\n",
		"sys/devices/pci/0000:00:03.0/msi_irqs/37":              "msix\n",
		"sys/devices/pci/0000:00:03.0/msi_irqs/38":              "msix\n",
		"sys/devices/pci/0000:00:03.0/msi_irqs/39":              "msix\n",
		"sys/devices/pci/0000:00:03.0/virtio2/net/eth0/ifindex": "2\n",
		"sys/class/net/eth0/queues/rx-0/rps_cpus":               "0\n",

		"sys/devices/platform/ens5/uevent":        "",
		"sys/class/net/ens5/queues/rx-0/rps_cpus": "1\n",
		"sys/class/net/ens5/queues/rx-1/rps_cpus": "4\n",

		"sys/class/net/veth0/queues/rx-0/rps_cpus": "00000000,00000000\n",
	})
	for _, link := range [][2]string{{"eth0", "vlan/lower_eth0"}, {"vlan", "bridge/lower_vlan"}, {"ens5", "bridge/lower_ens5"}} {
		path := filepath.Join(root, "sys/class/net", link[1])
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("../"+link[0], path)); err != nil {
			t.Fatal(err)
		}
	}
	for name, device := range map[string]string{"eth0": "sys/devices/pci/0000:00:03.0/virtio2", "ens5": "sys/devices/platform/ens5"} {
		if err := os.Symlink(filepath.Join(root, device), filepath.Join(root, "sys/class/net", name, "device")); err != nil {
			t.Fatal(err)
		}
	}
	r := &Reader{Root: root}
	for _, want := range []NIC{
		{Name: "eth0", Interrupts: Of(1)},                       // by the vectors of its parent
		{Name: "ens5", Interrupts: Of(0, 1), Steered: Of(0, 2)}, // by the names of its interrupts
		{Name: "veth0"}, // virtual
		{Name: "gone"},
		{Name: "vlan", Interrupts: Of(1)},
		{Name: "bridge", Interrupts: Of(0, 1), Steered: Of(0, 2)},
	} {
		if n := r.NIC(want.Name, filepath.Join(root, "sys/class/net", want.Name)); n != want {
			t.Errorf("%+v, want %+v", n, want)
		}
	}
}

func TestQuietProcessorsReceiveAlmostNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := &Reader{Root: root}
	look := func(row string, want Set) {
		t.Helper()
		write(t, root, map[string]string{"proc/softirqs": "    CPU0 CPU2 CPU3\nNET_TX: 9 9 9\nNET_RX: " + row + "\n"})
		if quiet := r.Quiet(); quiet != want {
			t.Errorf("NET_RX %s: %v, want %v", row, quiet, want)
		}
	}
	look("1000000 5000000 0", Set{})      // the first look knows no differences
	look("1009000 5000000 0", Set{})      // too few
	look("1100000 5000010 100", Of(2, 3)) // processor 0 receives
	look("1100000 5000010 100", Of(2, 3)) // a pause
	look("1100000 5100010 100", Of(3))    // 2 receives
	if (&Reader{Root: t.TempDir()}).Quiet() != (Set{}) {
		t.Error("quiet processors without /proc/softirqs")
	}
}

func TestSoftirqsAreParsed(t *testing.T) {
	t.Parallel()
	got := ParseSoftirqs("      CPU0       CPU7\n  NET_TX:  1  2\n  NET_RX:  30  40\n", "NET_RX")
	if want := map[int]uint64{0: 30, 7: 40}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func FuzzParseSoftirqs(f *testing.F) {
	f.Add("CPU0 CPU1\nNET_RX: 1 2\n")
	f.Add("CPU0\nNET_RX: 1 2 x\n")
	f.Fuzz(func(t *testing.T, text string) {
		for c := range ParseSoftirqs(text, "NET_RX") {
			if c < 0 || c >= most {
				t.Errorf("processor %d", c)
			}
		}
	})
}

func FuzzParseInterrupts(f *testing.F) {
	f.Add([]byte(table))
	f.Add([]byte("CPU0\n 1: 5\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, row := range ParseInterrupts(text) {
			if row.Number < 0 {
				t.Errorf("%+v", row)
			}
			row.named("eth0")
		}
	})
}
