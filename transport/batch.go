package transport

import (
	"sync/atomic"
	"time"
)

// part is some records of a chunk, one after the other.
type part struct {
	c        *chunk
	from, to int // indices of c.ends; the record at to is not in the part
	// at is when the records came into the queue, after the output's epoch.
	at time.Duration
}

// records returns the number of records.
func (p part) records() int { return p.to - p.from }

// start returns the offset in c.buf at which record i begins.
func (c *chunk) start(i int) int {
	if i == 0 {
		return 0
	}
	return int(c.ends[i-1])
}

// bytes returns the encoded records.
func (p part) bytes() []byte { return p.c.buf[p.c.start(p.from):p.c.start(p.to)] }

// cut returns the index of the record after the last one of p that fits into room
// bytes. The first record is taken in any case if none has to fit before it.
func (p part) cut(room int, first bool) int {
	begin := p.c.start(p.from)
	// The answer is seldom far from the end.
	to := p.to
	for to > p.from && int(p.c.ends[to-1])-begin > room {
		to--
	}
	if to == p.from && first {
		to++
	}
	return to
}

// batch is the records of one request. It refers to chunks and copies nothing.
type batch struct {
	parts   []part
	records int
	size    int // bytes of the records
	// encoded is the body of the request where that is not just the records; the
	// sender keeps it here for further attempts.
	encoded []byte
}

func (b *batch) add(p part) {
	b.parts = append(b.parts, p)
	b.records += p.records()
	b.size += len(p.bytes())
}

// halves returns two batches with the records of b, which has at least two.
func (b *batch) halves() (first, second batch) {
	left := b.records / 2
	for _, p := range b.parts {
		n := min(left, p.records())
		left -= n
		if n > 0 {
			first.add(part{p.c, p.from, p.from + n, p.at})
		}
		if n < p.records() {
			second.add(part{p.c, p.from + n, p.to, p.at})
		}
	}
	return first, second
}

// queue has the records that wait for their batch to fill up, oldest first. It is
// used by the goroutine of the driver.
type queue struct {
	parts []part
	size  int // bytes
}

// put appends all records of a chunk that the caller got from [buffer.next]. now is
// counted from the output's epoch.
func (q *queue) put(c *chunk, now time.Duration) {
	atomic.StoreInt32(&c.left, int32(len(c.ends)))
	q.parts = append(q.parts, part{c, 0, len(c.ends), now})
	q.size += len(c.buf)
}

// take removes the oldest records, of at most limit bytes together unless there is
// but one of them.
func (q *queue) take(limit int) *batch {
	b := new(batch)
	for len(q.parts) > 0 {
		p := q.parts[0]
		to := p.cut(limit-b.size, b.records == 0)
		if to == p.from {
			break
		}
		b.add(part{p.c, p.from, to, p.at})
		if to < p.to {
			q.parts[0].from = to
			break
		}
		q.parts[0] = part{}
		q.parts = q.parts[1:]
	}
	q.size -= b.size
	return b
}

// age returns how long the oldest records have been in the queue, which is not empty.
func (q *queue) age(now time.Duration) time.Duration { return now - q.parts[0].at }
