package periodic

import "time"

// decision is what becomes of a task's pending due times.
type decision struct {
	run     []time.Time // to run, oldest first, one after the other
	missed  int64       // older ones that run[0] stands for
	skipped int64       // dropped by SkipMissed
	overran int64       // met while running
	queue   bool        // the newest is remembered until the run ends
}

// decide is the whole of overlap and misfire: active runs are going on, p is due.
func decide(o Overlap, m Misfire, active int, p pending) decision {
	newest := p.newest[len(p.newest)-1:]
	switch {
	case active > 0 && active >= o.Parallel:
		return decision{overran: p.n, queue: o.Queued}
	case p.n == 1:
		return decision{run: newest}
	case m.Skip:
		return decision{skipped: p.n}
	case m.CatchUp > 0:
		return decision{run: p.newest, missed: p.n - int64(len(p.newest))}
	}
	return decision{run: newest, missed: p.n - 1}
}
