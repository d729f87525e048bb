package ha

import (
	"context"
	"fmt"
	"time"

	"github.com/drover-cloud/drover"
)

// Investigator looks at a host that may be dead. It changes nothing. An error is Unknown.
type Investigator interface {
	Investigate(ctx context.Context, h Host) (Finding, error)
}

// Investigate has all look at h at once, each for at most limit, and gives what they found in their order: a Finding for each. Who
// returns an error, panics, has no answer in time, or says Dead without a Proof, found nothing out: Unknown. One that ignores its ctx
// is left behind, and its answer dropped. By is filled in where it is empty.
func Investigate(ctx context.Context, env drover.Env, limit time.Duration, all []Investigator, h Host) []Finding {
	env = env.Defaults()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type answer struct {
		i int
		f Finding
	}
	answers := make(chan answer, len(all)) // room for the late ones
	out := make([]Finding, len(all))
	for i, v := range all {
		out[i] = Finding{By: by(v, i), Note: "no answer in time"}
		env.Go(fmt.Sprintf("ha/investigate/%s/%d", h.ID, i), func() {
			f := look(ctx, v, h)
			if f.By == "" {
				f.By = by(v, i)
			}
			answers <- answer{i, f}
		})
	}
	for range all {
		select {
		case a := <-answers:
			if ctx.Err() == nil {
				out[a.i] = a.f
				continue
			}
		case <-ctx.Done():
		}
		break
	}
	return out
}

// by is a name for an investigator or fencer: its own, if it has one.
func by(v any, i int) string {
	if n, ok := v.(fmt.Stringer); ok {
		return n.String()
	}
	return fmt.Sprintf("%T %d", v, i+1)
}

func look(ctx context.Context, v Investigator, h Host) (f Finding) {
	defer func() {
		if p := recover(); p != nil {
			f = Finding{Note: fmt.Sprintf("panic: %v", p)}
		}
	}()
	f, err := v.Investigate(ctx, h)
	switch {
	case err != nil:
		return Finding{By: f.By, Note: err.Error()}
	case f.Verdict == Dead && f.Proof == nil:
		return Finding{By: f.By, Note: "dead, but without a proof: " + f.Note}
	case f.Verdict < Unknown || f.Verdict > Dead:
		return Finding{By: f.By, Note: fmt.Sprintf("verdict %d is none", f.Verdict)}
	}
	return f
}
