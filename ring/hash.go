package ring

// golden is 2^64 divided by the golden ratio: it spreads the seeds of one member.
const golden = 0x9E3779B97F4A7C15

// mix is the finalizer of SplitMix64 (Stafford's variant 13).
func mix(z uint64) uint64 {
	z ^= z >> 30
	z *= 0xbf58476d1ce4e5b9
	z ^= z >> 27
	z *= 0x94d049bb133111eb
	return z ^ z>>31
}

const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

// fnv continues FNV-1a over s.
func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// hash is of a member's name or a key.
func hash(s string) uint64 { return mix(fnv(fnvOffset, s)) }
