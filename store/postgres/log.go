package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
)

const (
	// sqlNote adds to the side row of a running job; Rev and Updated count only what readers of the job see.
	sqlNote = `
INSERT INTO @extra AS x (id, rev, flags, updated, percent, step, note, seal_state, result, error)
SELECT $1::uuid, $2::int, $3::int, now(), $5::int, $6::text, $7::text, $8::smallint, $9::text, $10::text
ON CONFLICT (id) DO UPDATE SET rev = x.rev + excluded.rev, flags = x.flags | excluded.flags, updated = now(),
  percent = CASE WHEN $4::bool THEN excluded.percent ELSE x.percent END, step = CASE WHEN $4::bool THEN excluded.step ELSE x.step END,
  note = CASE WHEN $4::bool THEN excluded.note ELSE x.note END, seal_state = coalesce(excluded.seal_state, x.seal_state),
  result = CASE WHEN excluded.seal_state IS NULL THEN x.result ELSE excluded.result END, error = CASE WHEN excluded.seal_state IS NULL THEN x.error ELSE excluded.error END`

	sqlSteps = `
INSERT INTO @step (id, name, n, at, epoch, node, data)
SELECT id, name, coalesce((SELECT max(n) FROM @step s WHERE s.id = r.id), 0) + i, now(), epoch, node, data
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[]) WITH ORDINALITY r(id, name, epoch, node, data, i) ORDER BY i
ON CONFLICT (id, name) DO NOTHING`

	// sqlNotes counts the rows of journals.
	sqlNotes = `
INSERT INTO @extra AS x (id, notes) SELECT id, count(*) FROM unnest($1::uuid[]) id GROUP BY id ORDER BY id
ON CONFLICT (id) DO UPDATE SET notes = x.notes + excluded.notes RETURNING id::text, notes`

	// sqlJournal writes rows by their numbers; only the one that tells what a full journal has no room for is there already.
	sqlJournal = `
INSERT INTO @journal (id, n, at, epoch, node, text, data, failure)
SELECT id, n, coalesce(at, now()), epoch, node, text, data, failure
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bool[]) r(id, n, at, epoch, node, text, data, failure)
ON CONFLICT (id, n) DO UPDATE SET at = excluded.at, epoch = excluded.epoch, node = excluded.node, data = excluded.data`

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
		if n.rev > 0 {
			if _, err := t.exec(ctx, sqlNote, n.args(id)...); err != nil {
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
		b.add(n)
	}
	if len(b.stepIDs) > 0 {
		if _, err := t.exec(ctx, sqlSteps, b.stepIDs, b.steps, b.stepEpochs, b.stepNodes, b.stepData); err != nil {
			return err
		}
	}
	return b.journal(ctx, t)
}

// note is what the entries of one job do to its side row.
type note struct {
	rev      int64
	flags    job.Flag
	progress *job.Progress
	resource string
	seal     *job.Seal
	fail     *string
	entries  []*job.Entry
	topics   []string
}

func (n *note) add(e *job.Entry) (err error) {
	n.entries = append(n.entries, e)
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
	return []any{id, n.rev, int64(n.flags), n.progress != nil, p.Percent, nullText(p.Step), nullText(p.Note), sealed, result, n.fail}
}

// logBatch is rows of drover_step and drover_journal.
type logBatch struct {
	stepIDs, steps, stepNodes []string
	stepEpochs                []int64
	stepData                  []*string
	ids, nodes, texts         []string
	at                        []*time.Time
	epochs                    []int64
	data                      []*string
	failures                  []bool
}

func (b *logBatch) add(n note) {
	for _, e := range n.entries {
		data := nullJSON(e.Data)
		if e.Step != "" {
			b.stepIDs, b.steps, b.stepNodes = append(b.stepIDs, e.JobID), append(b.steps, e.Step), append(b.stepNodes, e.Node)
			b.stepEpochs, b.stepData = append(b.stepEpochs, e.Epoch), append(b.stepData, data)
			data = nil
		}
		if e.Text != "" {
			b.note(e.JobID, e, data)
		}
	}
}

// note adds a row of the journal.
func (b *logBatch) note(id string, e *job.Entry, data *string) {
	b.ids, b.nodes, b.texts = append(b.ids, id), append(b.nodes, e.Node), append(b.texts, e.Text)
	b.at, b.epochs = append(b.at, nullTime(e.At)), append(b.epochs, e.Epoch)
	b.data, b.failures = append(b.data, data), append(b.failures, e.Failure)
}

// journal numbers the rows and writes those that have room; the last of the others becomes the row that counts them.
func (b *logBatch) journal(ctx context.Context, t *tx) error {
	if len(b.ids) == 0 {
		return nil
	}
	notes := map[string]int64{}
	err := t.query(ctx, sqlNotes, func(scan func(...any) error) error {
		var id string
		var n int64
		err := scan(&id, &n)
		notes[id] = n
		return err
	}, b.ids)
	if err != nil {
		return err
	}
	var w logBatch
	var ns []int64
	told := map[string]bool{}
	for i := len(b.ids) - 1; i >= 0; i-- {
		id, text, data, failure := b.ids[i], b.texts[i], b.data[i], b.failures[i]
		n := notes[id]
		notes[id]--
		if n > job.MaxJournal {
			if told[id] {
				continue
			}
			told[id] = true
			dropped := strconv.FormatInt(n-job.MaxJournal, 10)
			n, text, data, failure = job.MaxJournal+1, job.DroppedText, &dropped, true
		}
		ns = append(ns, n)
		w.ids, w.nodes, w.texts = append(w.ids, id), append(w.nodes, b.nodes[i]), append(w.texts, text)
		w.at, w.epochs = append(w.at, b.at[i]), append(w.epochs, b.epochs[i])
		w.data, w.failures = append(w.data, data), append(w.failures, failure)
	}
	_, err = t.exec(ctx, sqlJournal, w.ids, ns, w.at, w.epochs, w.nodes, w.texts, w.data, w.failures)
	return err
}
