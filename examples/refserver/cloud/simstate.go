package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// simState keeps simulated hosts in the database, so that they outlive their controllers, like real ones, and all nodes see the
// same.
type simState struct{ t *tables }

// Update runs f alone on what is kept of a host; see sim.State.
func (s simState) Update(ctx context.Context, host string, f func(old []byte) ([]byte, error)) error {
	return s.t.in(ctx, func(ctx context.Context, q *tx) error {
		if _, err := q.exec(ctx, `INSERT INTO rs_sim (host, state) VALUES (?, '') ON CONFLICT (host) DO UPDATE SET host = excluded.host`, host); err != nil {
			return err
		}
		var old []byte
		var text string
		err := q.NewRaw(`SELECT state FROM rs_sim WHERE host = ?`, host).Scan(ctx, &text)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("cloud: simulated host: %w", err)
		}
		if text != "" {
			old = []byte(text)
		}
		data, err := f(old)
		if err != nil || data == nil {
			return err
		}
		_, err = q.exec(ctx, `UPDATE rs_sim SET state = ? WHERE host = ?`, string(data), host)
		return err
	})
}
