package drover

import (
	"context"
	"errors"
	"fmt"
)

// Record is what is stored about a service between its lives, under its host and topic.
type Record struct{ Host, Topic, Version string }

// RecordStore keeps Records; each store offers one (db.Records()).
type RecordStore interface {
	// Load gives the Record of host and topic; found is false when there is none.
	Load(ctx context.Context, host, topic string) (r Record, found bool, err error)
	// Create stores a new Record; one that is there already, from a sibling that was first, is ErrExists.
	Create(ctx context.Context, r Record) error
	// Save stores r in place of the Record of its Host and Topic.
	Save(ctx context.Context, r Record) error
}

// RecordFrom gives a hook or component the Record of its service as this start found it; false before it was loaded, on
// the very first start, and without a Service.Record.
func RecordFrom(ctx context.Context) (Record, bool) {
	s, _ := ctx.Value(serviceKey{}).(*Service)
	if s == nil {
		return Record{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.record == nil {
		return Record{}, false
	}
	return *s.record, true
}

// recall loads the Record, or creates it, and brings its version up to date.
func (s *Service) recall(ctx context.Context) error {
	if s.Record == nil || s.Host == "" && s.Env.Node == "" {
		return nil
	}
	want := Record{s.host(), s.Topic, s.Version}
	have, found, err := s.Record.Load(ctx, want.Host, want.Topic)
	if err == nil && !found {
		if err = s.Record.Create(ctx, want); err == nil {
			return nil
		}
		if !errors.Is(err, ErrExists) {
			return fmt.Errorf("drover: create record: %w", err)
		}
		if have, found, err = s.Record.Load(ctx, want.Host, want.Topic); err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("drover: record of %s %s vanished: %w", want.Host, want.Topic, ErrUnavailable)
		}
	}
	if err != nil {
		return fmt.Errorf("drover: load record: %w", err)
	}
	s.mu.Lock()
	s.record = &have
	s.mu.Unlock()
	if have.Version == want.Version {
		return nil
	}
	if err := s.Record.Save(ctx, want); err != nil {
		return fmt.Errorf("drover: save record: %w", err)
	}
	return nil
}
