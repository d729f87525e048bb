package drover

import (
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
	"time"
)

// The two things a process must know of itself: the instant of its last id, so that ids increase whoever draws them, and
// how many node names it has given out, so that no two are the same.
var (
	lastID    atomic.Int64
	nodeCount atomic.Uint32
	nodeStart = uint32(entropy())
)

// nodeSalt is random between processes and does not repeat within one: an odd multiplier permutes the 32-bit numbers.
func nodeSalt() uint32 { return nodeStart + nodeCount.Add(1)*2654435761 }

// newID is a UUIDv7 (RFC 9562): 48 bits of milliseconds, 20 bits of nanoseconds within it (method 3 of §6.2), 54 random
// bits. Two ids of one process never share an instant: the later one takes the next nanosecond.
func newID() string {
	now := time.Now().UnixNano()
	for {
		last := lastID.Load()
		if now <= last {
			now = last + 1
		}
		if lastID.CompareAndSwap(last, now) {
			return formatV7(uint64(now), entropy())
		}
	}
}

func formatV7(nanos, random uint64) string {
	ms, frac := nanos/1e6, nanos%1e6
	hi := ms<<16 | 7<<12 | frac>>8
	lo := 2<<62 | (frac&0xff)<<54 | random&(1<<54-1)
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
