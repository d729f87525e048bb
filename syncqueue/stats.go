package syncqueue

import "time"

type Stat struct {
	Key              Key
	Level            int
	Running, Pending int
	Oldest           time.Duration
}
