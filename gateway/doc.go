// Package gateway puts ports, tables and translator together: a stateful NAT64 (RFC 6146). It starts all goroutines of
// the data path.
//
// A packet in flight is an inflight, which every step takes as its argument. The files stand in the order in which a packet meets
// them; a file calls only into files below it, which a test holds. take runs a packet again in a loop when it has been
// reassembled and when it hairpins.
//
//	selftest.go   takes probe packets through a gateway in memory
//	explain.go    what would become of a packet
//	gateway.go    makes the gateway, and starts and stops it
//	deliver.go    delivers events of the tables to their observers
//	taps.go       hands out what workers record of their packets
//	maintain.go   sweeps the tables
//	watch.go      logs that a limit is near or reached
//	loss.go       logs that the kernel loses packets
//	syns.go       stored SYNs whose lifetime is over
//	ping.go       pings IPv4 hosts through the translator
//	worker.go     takes batches from a port to the outboxes
//	rescue.go     keeps a worker running after a panic
//	ingress.go    the port that packets arrive at, which is opened again when it fails
//	load.go       counts what arrives, and reports load
//	ahead.go      looks the sessions of a batch up together
//	long.go       cuts TCP super-packets above 64 KiB into some that IP can carry
//	probe.go      TCP probes of idle connections
//	echo.go       sends those pings
//	path.go       RFC 6146 section 3, a step a line
//	assemble.go   fragments (section 3.4)
//	check.go      which packets are for the gateway, and which are refused for their headers
//	source.go     forged sources
//	state.go      filtering and updating (section 3.5)
//	account.go    the traffic of each client, while accounting is on
//	reset.go      resets for TCP segments without a session
//	refuse.go     ICMP errors of the gateway's own
//	error.go      translates ICMP errors
//	pings.go      their answers
//	hairpin.go    packets from one client to another (section 3.8)
//	park.go       packets that wait for a next hop
//	parking.go    how many may wait
//	tracer.go     records what becomes of a packet, for the taps
//	ring.go       passes that to another goroutine
//	filter.go     which packets a tap wants
//	verdict.go    what becomes of a packet
//	inflight.go   the packet in flight, and what its batch has in common
//	own.go        which addresses are the gateway's, and which the host's
//	verified.go   sources that have passed
//	link.go       ports that are opened again
//	outage.go     their log messages
//	panic.go      counts and logs panics, and decides what follows
//	mailbox.go    hands what the sweep finds to a worker
//	config.go     the configuration
//	conf.go       tables and values that follow from the configuration
//	policy.go     lists of addresses and ports
//	side.go       the two networks
//	port.go       the interface to a network interface
//	routes.go     the interfaces to the host's routes
package gateway
