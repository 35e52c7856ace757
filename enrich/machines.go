package enrich

// sameMachine reports whether both pods are of one virtual machine.
func (c *claim) sameMachine(o *claim) bool {
	a, b := c.pod.migration, o.pod.migration
	return a != nil && b != nil && a.machine == b.machine
}

// handOverMachines settles which pod of a virtual machine owns its address. While it migrates, two
// pods have the address: the machine runs in the first, and in the second from the time on that the
// migration's annotation tells. Until there is one, the second owns nothing while another lives.
func (t *timelineBuilder) handOverMachines() {
	for i := range t.claims {
		c := &t.claims[i]
		m := c.pod.migration
		if m == nil || !m.target {
			continue
		}
		begin := m.ready
		if shared := t.handOver(c, begin); !shared {
			continue
		}
		if begin == 0 {
			begin = t.lastOfMachine(c)
		}
		c.from, c.possibleFrom, c.certainFrom, c.soft = begin, begin, begin, false
	}
}

// handOver ends the claims of the other pods of c's virtual machine that had the address before it
// began to run in c, and reports whether there are other pods. With 0 it ends none.
func (t *timelineBuilder) handOver(c *claim, begin int64) (shared bool) {
	for i := range t.claims {
		o := &t.claims[i]
		if o.pod == c.pod || !o.sameMachine(c) {
			continue
		}
		shared = true
		om := o.pod.migration
		if later := om.target && (om.ready == 0 || om.ready > begin); begin == 0 || later {
			continue
		}
		o.handedOver = true
		o.to, o.yieldsFrom, o.possibleUntil = min(o.to, begin), min(o.yieldsFrom, begin), min(o.possibleUntil, begin)
	}
	return shared
}

// lastOfMachine returns the latest end of the other pods of c's virtual machine in which it ran.
func (t *timelineBuilder) lastOfMachine(c *claim) int64 {
	last := c.from
	for i := range t.claims {
		o := &t.claims[i]
		if o.pod != c.pod && o.sameMachine(c) && !(o.pod.migration.target && o.pod.migration.ready == 0) {
			last = max(last, o.to)
		}
	}
	return last
}
