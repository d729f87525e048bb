package main

import "time"

// torments is how often each is done.
type torments struct {
	Kills, Stops, Holes, Crashes int // SIGKILL and SIGSTOP of a worker, a black hole, SIGKILL of PostgreSQL
}

func (t torments) all() int { return t.Kills + t.Stops + t.Holes + t.Crashes }

// profile says how much is done, and so what a valid run has seen.
type profile struct {
	Name    string
	Workers int
	Slots   int // handlers per worker at once
	Jobs    int
	Keys    int // nine of ten with limit 1, the others with limit 3
	Refused int // stale writes that the store must have refused
	torments
	plan  torments // what is done; differs from what is needed only by -stops
	Lease time.Duration
	Gap   time.Duration // mean between two torments
	Most  time.Duration
	Idle  time.Duration // the server ends a transaction in which a frozen worker holds locks; 0: the store's default, 10 s
}

var profiles = map[string]profile{
	"short": {
		Name: "short", Workers: 4, Slots: 24, Jobs: 20_000, Keys: 500, Refused: 1,
		torments: torments{Kills: 200, Stops: 30, Holes: 3, Crashes: 1}, Lease: time.Second, Gap: 150 * time.Millisecond, Most: 10 * time.Minute, Idle: 2 * time.Second,
	},
	"long": {
		Name: "long", Workers: 6, Slots: 24, Jobs: 200_000, Keys: 500, Refused: 20,
		torments: torments{Kills: 3000, Stops: 300, Holes: 30, Crashes: 5}, Lease: time.Second, Gap: 150 * time.Millisecond, Most: time.Hour,
	},
}

// scaled is p with so many jobs, and as many torments for each.
func (p profile) scaled(jobs int) profile {
	part := func(n int) int { return (n*jobs + p.Jobs - 1) / p.Jobs }
	p.Kills, p.Stops, p.Holes, p.Crashes = part(p.Kills), part(p.Stops), part(p.Holes), part(p.Crashes)
	p.Refused = min(p.Refused, part(p.Refused))
	p.Name, p.Jobs = p.Name+" scaled", jobs
	return p
}
