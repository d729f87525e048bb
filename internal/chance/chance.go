// Package chance draws from a random source what jitter needs.
package chance

import (
	"math/rand/v2"
	"time"
)

// Unit is uniform in [0, 1).
func Unit(src rand.Source) float64 { return float64(src.Uint64()>>11) / (1 << 53) }

// Around is d ± share·d; it draws nothing if share is 0.
func Around(src rand.Source, d time.Duration, share float64) time.Duration {
	if share == 0 {
		return d
	}
	return d + time.Duration(share*(2*Unit(src)-1)*float64(d))
}
