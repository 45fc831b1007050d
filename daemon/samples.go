//go:build linux

package daemon

import (
	"sync"
	"time"

	"nat64d/linux/nexthop"
	"nat64d/linux/nic"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

// readings are figures that take time to find out.
type readings struct {
	population measured[*session.Population]
	pools      measured[[]poolUse]
	offloads   measured[[]metrics.Sample]
	busy       busy
}

// measured is a value that is found out again when it is asked for, but in one percent of the time at most.
type measured[T any] struct {
	mu    sync.Mutex
	value T
	at    time.Time // when it was found out; zero: not yet
	took  time.Duration
}

// get returns the value of look, or that of an earlier call.
func (m *measured[T]) get(look func() T) T {
	m.mu.Lock()
	defer m.mu.Unlock()
	if start := time.Now(); m.at.IsZero() || start.Sub(m.at) >= 100*m.took {
		m.value = look()
		m.at = time.Now()
		m.took = m.at.Sub(start)
	}
	return m.value
}

// samples returns every metric.
func (d *Daemon) samples() (list []metrics.Sample) {
	list = append(list, d.gateway.Counters.Samples()...)
	list = append(list, d.tableSamples()...)
	list = append(list, d.poolSamples()...)
	list = append(list, d.workerSamples()...)
	list = append(list, d.interfaceSamples()...)
	list = append(list, d.healthSamples()...)
	list = append(list, d.processSamples()...)
	return append(list, d.dns64.samples()...)
}

// tableSamples are those of sessions and bindings.
func (d *Daemon) tableSamples() (list []metrics.Sample) {
	s := d.gateway.Sessions
	population := d.readings.population.get(func() *session.Population { return s.Population(d.gateway.Now()) })
	for _, p := range protocols {
		for _, state := range population.Of(p) {
			list = append(list, metrics.Sessions.With(uint64(population[p][state]), p.String(), state.String()))
		}
		list = append(list, metrics.SessionsCreated.With(s.Begun(p), p.String()))
		static := d.gateway.Bindings.Static(p)
		list = append(list, metrics.Bindings.With(uint64(static), p.String(), "static"),
			metrics.Bindings.With(uint64(max(d.gateway.Bindings.Len(p)-static, 0)), p.String(), "dynamic"))
	}
	for _, c := range session.Causes() {
		list = append(list, metrics.SessionsClosed.With(s.Ended(c), c.String()))
	}
	c := d.config()
	return append(list,
		metrics.SessionsLimit.With(uint64(c.Sessions.Max)), metrics.SessionsReclaimed.With(s.Reclaimed()),
		metrics.InboundSessions.With(uint64(s.InboundLen())), metrics.InboundLimit.With(uint64(s.InboundQuota())), metrics.InboundEvicted.With(s.Evicted()),
		metrics.StoredSYNs.With(uint64(d.gateway.SYNs.Len())), metrics.StoredSYNsLimit.With(uint64(c.Sessions.MaxStoredSYNs)),
		metrics.Clients.With(uint64(d.gateway.Bindings.Clients())))
}

// interfaceSamples are those of the two sides. Both may be one interface, whose losses are then one.
func (d *Daemon) interfaceSamples() (list []metrics.Sample) {
	links := []nexthop.Link{d.routes.Link6(), d.routes.Link4()}
	ring, refused := map[string]uint64{}, map[string]uint64{}
	var names []string
	for i, l := range links {
		side := packet.Family(i).String()
		list = append(list, metrics.InterfaceUp.Is(l.Up, l.Name, side), metrics.InterfaceMTU.With(uint64(l.MTU), l.Name, side))
		if _, twice := ring[l.Name]; !twice {
			names = append(names, l.Name)
		}
		lost, failed := d.gateway.Counters.Losses(i)
		ring[l.Name] += lost
		refused[l.Name] += failed
	}
	for _, name := range names {
		list = append(list, metrics.RingDrops.With(ring[name], name), metrics.TransmitErrors.With(refused[name], name))
	}
	list = append(list, d.readings.offloads.get(func() []metrics.Sample { return offloadSamples(names) })...)
	return append(list, metrics.OffloadsSwitched.With(d.nics.switches.Load()))
}

// offloadSamples returns which settings of the interfaces are on; none of one that does not exist.
func offloadSamples(names []string) (list []metrics.Sample) {
	for _, name := range names {
		on, err := nic.On(name)
		if err != nil && len(on) == 0 {
			continue
		}
		has := map[string]bool{}
		for _, feature := range on {
			has[feature] = true
		}
		for _, feature := range nic.Shown() {
			list = append(list, metrics.OffloadEnabled.Is(has[feature], name, feature))
		}
	}
	return list
}

// healthSamples are those that nat64ctl health and status show in words.
func (d *Daemon) healthSamples() []metrics.Sample {
	checks := d.readiness.checks()
	ready := true
	var list []metrics.Sample
	for _, c := range checks {
		ready = ready && c.OK
		list = append(list, metrics.CheckOK.Is(c.OK, c.Name))
	}
	return append(list, metrics.Ready.Is(ready), metrics.PausedState.Is(d.gateway.Paused()),
		metrics.Warnings.With(uint64(len((&backend{Daemon: d}).allWarnings()))))
}

// processSamples are those of the process and of its configuration.
func (d *Daemon) processSamples() []metrics.Sample {
	panics, _ := d.panics.Count()
	memory, kept := d.memory.status(), d.keptStatus()
	refused := 0
	for _, n := range kept.Refused {
		refused += n
	}
	return []metrics.Sample{
		metrics.Pool4RestShortened.With(d.pool.RestedShort()), metrics.ARPConflicts.With(d.routes.AddressConflicts()),
		metrics.PanicsSurvived.With(panics), metrics.GuardRepairs.With(d.guard.repaired()),
		metrics.LogEventsDropped.With(d.natEventsLost(), "nat_log"), d.log.sample(),
		metrics.MemoryUsed.With(uint64(memory.Used)), metrics.MemoryLimit.With(uint64(memory.Limit)),
		metrics.StateKept.Is(kept.Dir != ""), metrics.StateRestored.With(uint64(kept.Sessions)),
		metrics.StateRefused.With(uint64(refused)), metrics.StateUnkept.With(uint64(kept.Unkept)),
		metrics.ReloadOK.Is(!d.reloads.failed.Load()), metrics.ReloadTime.Of(float64(d.reloads.at.Load()) / 1e9),
		buildInfo(d.options.Version),
	}
}

func buildInfo(v control.Version) metrics.Sample {
	return metrics.BuildInfo.With(1, v.Version, v.Revision, v.Go)
}

// countersOf returns the lines of samples.
func countersOf(samples []metrics.Sample) []control.Counter {
	lines := metrics.Lines(samples)
	list := make([]control.Counter, len(lines))
	for i, l := range lines {
		list[i] = control.Counter(l)
	}
	return list
}
