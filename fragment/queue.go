package fragment

// A datagram is in two queues, in the order of arrival: that of all datagrams and that of its source.
const (
	ofAll = iota
	ofSource
	queues
)

// links are the neighbours of a datagram in a queue, or 0.
type links struct{ older, newer uint32 }

// queue is a list of datagrams in the order of arrival, by their numbers.
type queue struct{ oldest, newest uint32 }

// push makes the datagram n the newest of q, which is its queue number i.
func (r *Reassembler) push(q *queue, i int, n uint32) {
	r.datagrams.at(n).links[i] = links{older: q.newest}
	if q.newest != 0 {
		r.datagrams.at(q.newest).links[i].newer = n
	} else {
		q.oldest = n
	}
	q.newest = n
}

// unlink removes the datagram n from q, which is its queue number i.
func (r *Reassembler) unlink(q *queue, i int, n uint32) {
	l := r.datagrams.at(n).links[i]
	if l.older != 0 {
		r.datagrams.at(l.older).links[i].newer = l.newer
	} else {
		q.oldest = l.newer
	}
	if l.newer != 0 {
		r.datagrams.at(l.newer).links[i].older = l.older
	} else {
		q.newest = l.older
	}
}
