package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

const (
	// sqlNote adds to the side row of a running job; Rev and Updated count only what readers of the job see.
	sqlNote = `
INSERT INTO @extra AS x (id, rev, flags, updated, notes, percent, step, note, seal_state, result, error)
SELECT $1::uuid, $2::int, $3::int, CASE WHEN $2::int > 0 THEN now() END, $4::bigint, $6::int, $7::text, $8::text, $9::smallint, $10::text, $11::text
ON CONFLICT (id) DO UPDATE SET rev = x.rev + excluded.rev, flags = x.flags | excluded.flags, updated = coalesce(excluded.updated, x.updated), notes = x.notes + excluded.notes,
  percent = CASE WHEN $5::bool THEN excluded.percent ELSE x.percent END, step = CASE WHEN $5::bool THEN excluded.step ELSE x.step END,
  note = CASE WHEN $5::bool THEN excluded.note ELSE x.note END, seal_state = coalesce(excluded.seal_state, x.seal_state),
  result = CASE WHEN excluded.seal_state IS NULL THEN x.result ELSE excluded.result END, error = CASE WHEN excluded.seal_state IS NULL THEN x.error ELSE excluded.error END
RETURNING notes`

	sqlSteps = `
INSERT INTO @step (id, name, n, at, epoch, node, data)
SELECT id, name, coalesce((SELECT max(n) FROM @step s WHERE s.id = r.id), 0) + i, now(), epoch, node, data
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[]) WITH ORDINALITY r(id, name, epoch, node, data, i) ORDER BY i
ON CONFLICT (id, name) DO NOTHING`

	sqlJournal = `
INSERT INTO @journal (id, n, at, epoch, node, text, data, failure)
SELECT id, n, now(), epoch, node, text, data, failure
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bool[]) r(id, n, epoch, node, text, data, failure)`

	sqlSubscribe = `INSERT INTO @topic (topic, seq, id, parked) SELECT t, j.seq, j.id, false FROM @job j CROSS JOIN unnest($2::text[]) u(t) WHERE j.id = $1::uuid
ON CONFLICT (topic, seq) DO UPDATE SET parked = false`

	sqlSealed = `SELECT EXISTS (SELECT 1 FROM @extra WHERE id = ANY ($1::uuid[]) AND (seal_state IS NOT NULL OR flags & 1 <> 0))`
)

// Log holds the rows of the runs against their end, then writes beside them.
func (j jobs) Log(ctx context.Context, x store.Tx, es []job.Entry) error {
	t, err := j.s.of(x)
	if err != nil || len(es) == 0 {
		return err
	}
	epochs := map[string]int64{}
	var all, seals []string
	for i := range es {
		e := &es[i]
		if known, ok := epochs[e.JobID]; ok && known != e.Epoch || !isID(e.JobID) {
			return store.ErrConflict
		} else if !ok {
			epochs[e.JobID] = e.Epoch
			all = append(all, e.JobID)
		}
		if e.Seal != nil {
			if slices.Contains(seals, e.JobID) {
				return store.ErrConflict
			}
			seals = append(seals, e.JobID)
		}
	}
	slices.Sort(all)
	at := make([]int64, len(all))
	for i, id := range all {
		at[i] = epochs[id]
	}
	if err := t.mustRun(ctx, all, at); err != nil {
		return err
	}
	if err := t.unsealed(ctx, seals); err != nil {
		return err
	}
	if err := t.log(ctx, all, es); err != nil {
		return fmt.Errorf("postgres: log: %w", err)
	}
	return nil
}

func (t *tx) unsealed(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	if _, err := t.exec(ctx, `INSERT INTO @extra (id) SELECT unnest($1::uuid[]) ON CONFLICT (id) DO UPDATE SET id = excluded.id`, ids); err != nil { // locks it
		return err
	}
	sealed := false
	err := t.query(ctx, sqlSealed, func(scan func(...any) error) error { return scan(&sealed) }, ids)
	if err == nil && sealed {
		return store.ErrConflict
	}
	return err
}

// log writes entries job by job, in order of id, so that two batches cannot wait for each other.
func (t *tx) log(ctx context.Context, all []string, es []job.Entry) error {
	var b logBatch
	for _, id := range all {
		var n note
		for i := range es {
			if es[i].JobID == id {
				if err := n.add(&es[i]); err != nil {
					return err
				}
			}
		}
		last := int64(0)
		if n.side() {
			err := t.query(ctx, sqlNote, func(scan func(...any) error) error { return scan(&last) }, n.args(id)...)
			if err != nil {
				return err
			}
		}
		if n.resource != "" {
			if _, err := t.exec(ctx, `UPDATE @job SET resource = $2 WHERE id = $1::uuid`, id, n.resource); err != nil {
				return err
			}
		}
		if len(n.topics) > 0 {
			if _, err := t.exec(ctx, sqlSubscribe, id, n.topics); err != nil {
				return err
			}
		}
		b.add(n, last)
	}
	if len(b.stepIDs) > 0 {
		if _, err := t.exec(ctx, sqlSteps, b.stepIDs, b.steps, b.stepEpochs, b.stepNodes, b.stepData); err != nil {
			return err
		}
	}
	if len(b.ids) > 0 {
		_, err := t.exec(ctx, sqlJournal, b.ids, b.n, b.epochs, b.nodes, b.texts, b.data, b.failures)
		return err
	}
	return nil
}

// note is what the entries of one job do to its side row.
type note struct {
	rev, texts int64
	flags      job.Flag
	progress   *job.Progress
	resource   string
	seal       *job.Seal
	fail       *string
	entries    []*job.Entry
	topics     []string
}

func (n *note) add(e *job.Entry) (err error) {
	n.entries = append(n.entries, e)
	if e.Text != "" {
		n.texts++
	}
	if e.Topic != "" && !slices.Contains(n.topics, e.Topic) {
		n.topics = append(n.topics, e.Topic)
	}
	if e.Progress == nil && e.Resource == "" && e.Mark == 0 && e.Seal == nil {
		return nil
	}
	n.rev++
	n.flags |= e.Mark
	if e.Progress != nil {
		n.progress = e.Progress
	}
	if e.Resource != "" {
		n.resource = e.Resource
	}
	if e.Seal != nil {
		n.seal, n.flags = e.Seal, n.flags|job.Sealed
		if e.Seal.Error != nil {
			n.fail, err = encode(e.Seal.Error)
		}
	}
	return err
}

func (n *note) side() bool { return n.rev+n.texts > 0 }

func (n *note) args(id string) []any {
	p := job.Progress{}
	if n.progress != nil {
		p = *n.progress
	}
	var sealed *int64
	var result *string
	if n.seal != nil {
		sealed, result = nullInt(int64(stateCodes[n.seal.State])), nullJSON(n.seal.Result)
	}
	return []any{id, n.rev, int64(n.flags), n.texts, n.progress != nil, p.Percent, nullText(p.Step), nullText(p.Note), sealed, result, n.fail}
}

// logBatch is rows of drover_step and drover_journal.
type logBatch struct {
	stepIDs, steps, stepNodes []string
	stepEpochs                []int64
	stepData                  []*string
	ids, nodes, texts         []string
	n, epochs                 []int64
	data                      []*string
	failures                  []bool
}

func (b *logBatch) add(n note, last int64) {
	at := last - n.texts
	for _, e := range n.entries {
		data := nullJSON(e.Data)
		if e.Step != "" {
			b.stepIDs, b.steps, b.stepNodes = append(b.stepIDs, e.JobID), append(b.steps, e.Step), append(b.stepNodes, e.Node)
			b.stepEpochs, b.stepData = append(b.stepEpochs, e.Epoch), append(b.stepData, data)
			data = nil
		}
		if e.Text != "" {
			at++
			b.ids, b.nodes, b.texts = append(b.ids, e.JobID), append(b.nodes, e.Node), append(b.texts, e.Text)
			b.n, b.epochs = append(b.n, at), append(b.epochs, e.Epoch)
			b.data, b.failures = append(b.data, data), append(b.failures, e.Failure)
		}
	}
}
