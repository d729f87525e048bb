package sched

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Streams of randomness: each use has its own, so that a draw more in one never shifts another.
const (
	streamSchedule = 1 + iota
	streamFaults
	streamLatency
	streamWork
	streamIDs
	streamJitter
	streamNodes = 100
)

// stream is PCG k of the seed.
func stream(seed, k uint64) *rand.PCG { return rand.NewPCG(mix(seed), mix(k^0x9e3779b97f4a7c15)) }

// mix is the finaliser of SplitMix64: neighbouring seeds give unrelated streams.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

// draws are the streams of one goroutine, so that goroutines which run in parallel between two scheduling points
// cannot disturb each other's; anonymous ones of a process share theirs. Guarded by Sched.mu.
type draws struct {
	name uint64
	ids  uint64
	rng  *rand.PCG
	kids map[string]int // times each name was started from here
}

func newDraws(name string) *draws { return &draws{name: hashOf(name)} }

// Uint64 draws from the calling goroutine's stream; goroutines without a name share their process's.
func (p *Proc) Uint64() uint64 {
	g := p.s.self(p)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if g.draws.rng == nil {
		g.draws.rng = stream(p.s.seed^g.draws.name, streamNodes+hashOf(p.Name))
	}
	return g.draws.rng.Uint64()
}

// NewID is a version 7 UUID: milliseconds and their fraction of virtual time, the goroutine's counter, then bits of the
// seed, the goroutine and the counter.
func (p *Proc) NewID() string {
	g := p.s.self(p)
	p.s.mu.Lock()
	g.draws.ids++
	n := g.draws.ids
	bits := mix(mix(mix(p.s.seed^streamIDs)^g.draws.name) ^ n)
	p.s.mu.Unlock()
	ns := uint64(time.Now().UnixNano())
	var b [16]byte
	frac := ns % 1e6 * 4096 / 1e6
	binary.BigEndian.PutUint64(b[:8], ns/1e6<<16|7<<12|frac)
	binary.BigEndian.PutUint64(b[8:], 2<<62|n&(1<<14-1)<<48|bits>>16)
	var t [36]byte
	hex.Encode(t[:8], b[:4])
	hex.Encode(t[9:13], b[4:6])
	hex.Encode(t[14:18], b[6:8])
	hex.Encode(t[19:23], b[8:10])
	hex.Encode(t[24:], b[10:])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return string(t[:])
}

// Rand is a stream of the script's own, by name.
func (s *Sched) Rand(name string) *rand.Rand {
	return rand.New(stream(s.seed^hashOf(name), streamWork))
}
