package jobjson

import "time"

// Span is a bar of a job's timeline.
type Span struct {
	What    string `json:"what"` // scheduled, waiting, ready, run, step, park, delay, cancel, child, gap, more
	Text    string `json:"text"`
	From    Stamp  `json:"from"`
	To      Stamp  `json:"to,omitzero"` // zero = still going on
	Outcome string `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Job     string `json:"job,omitempty"` // a job it is about
	Depth   int    `json:"depth,omitempty"`
}

// Until is its end, or now.
func (s *Span) Until(now time.Time) time.Time {
	if s.To.IsZero() {
		return now
	}
	return time.Time(s.To)
}
