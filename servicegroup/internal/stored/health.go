// Package stored is what drivers write of a member as JSON.
package stored

import (
	"errors"
	"time"

	"github.com/drover-cloud/drover"
)

// Health is a drover.Health. Of its error the text is kept.
type Health struct {
	Name  string    `json:"name,omitempty"`
	State string    `json:"state,omitempty"`
	Err   string    `json:"err,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// HealthOf is h as it is written.
func HealthOf(h drover.Health) Health {
	s := Health{Name: h.Name, State: h.State, Since: h.Since}
	if h.Err != nil {
		s.Err = h.Err.Error()
	}
	return s
}

// Health is what was written.
func (s Health) Health() drover.Health {
	h := drover.Health{Name: s.Name, State: s.State, Since: s.Since}
	if s.Err != "" {
		h.Err = errors.New(s.Err)
	}
	return h
}
