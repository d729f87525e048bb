package job

import (
	"context"

	"github.com/drover-cloud/drover/store"
)

// Lookup answers those of the jobs that there are, by id, with one read; at most 1000 ids are looked at.
func (m *Manager) Lookup(ctx context.Context, ids []string) (map[string]*Job, error) {
	known := make([]string, 0, len(ids))
	for _, id := range ids {
		if id, ok := canonicalID(id); ok && len(known) < maxLookup {
			known = append(known, id)
		}
	}
	js := make(map[string]*Job, len(known))
	if len(known) == 0 {
		return js, nil
	}
	var found Found
	err := m.inRead(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		found, err = m.store.List(ctx, tx, Find{IDs: known, Limit: len(known)})
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range found.Rows {
		js[found.Rows[i].ID] = found.Rows[i].public()
	}
	return js, nil
}

const maxLookup = 1000
