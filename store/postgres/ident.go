package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drover-cloud/drover/job"
)

// ident is one name by which a row may meet another, beside its id.
type ident struct{ field, name string }

func identsOf(r *job.Row) (all []ident) {
	if r.Idem != "" {
		all = append(all, ident{"idem", "i" + r.Account + keySep + r.Kind + keySep + r.Idem})
	}
	if r.Unique != "" {
		all = append(all, ident{"unique", "u" + r.Kind + keySep + r.Unique})
	}
	if r.Name != "" {
		all = append(all, ident{"name", "n" + r.Parent + keySep + r.Name})
	}
	return all
}

const (
	// Insert first, then look: a name that is free is ours until the commit. Sorted, so that two calls cannot wait for each
	// other. Index: drover_ident_pkey.
	sqlIdentTake = `INSERT INTO @ident (name, id) SELECT * FROM unnest($1::text[], $2::uuid[]) n(name, id) ORDER BY name ON CONFLICT DO NOTHING RETURNING name`
	sqlIdentLook = `SELECT name, id::text FROM @ident WHERE name = ANY ($1::text[])`
	sqlIdentGive = `UPDATE @ident i SET id = n.id FROM unnest($1::text[], $2::uuid[]) n(name, id) WHERE i.name = n.name AND i.id <> n.id`
	sqlIdentDrop = `DELETE FROM @ident WHERE name = ANY ($1::text[])`
	sqlIDsInUse  = `SELECT id::text FROM @job WHERE id = ANY ($1::uuid[])`
)

// meet finds out which rows meet a stored row, answered with Met, or an earlier one of rows, answered as index → index. The
// names of the others are reserved.
func (t *tx) meet(ctx context.Context, rows []job.Row) (same map[int]int, err error) {
	taken := map[string]string{} // name → id of a stored row
	first := map[string]string{} // name → id of the first row that wants it
	var names, owners, all []string
	for i := range rows {
		all = append(all, rows[i].ID)
		for _, n := range identsOf(&rows[i]) {
			if _, ok := first[n.name]; !ok {
				first[n.name] = rows[i].ID
				names = append(names, n.name)
			}
		}
	}
	slices.Sort(names)
	for _, n := range names {
		owners = append(owners, first[n])
	}
	ours, err := t.takeIdents(ctx, names, owners, taken)
	if err != nil {
		return nil, err
	}
	inUse := map[string]bool{}
	err = t.query(ctx, sqlIDsInUse, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		inUse[id] = true
		return err
	}, all)
	if err != nil {
		return nil, err
	}
	same, stored := decideMet(rows, taken, inUse)
	if err := t.settleIdents(ctx, rows, ours); err != nil {
		return nil, err
	}
	return same, t.answerMet(ctx, rows, stored)
}

// takeIdents reserves names and reads who has the others.
func (t *tx) takeIdents(ctx context.Context, names, owners []string, taken map[string]string) (ours map[string]bool, err error) {
	ours = map[string]bool{}
	for try := 0; len(names) > 0; try++ {
		if try == 10 {
			return nil, errRaced
		}
		err := t.query(ctx, sqlIdentTake, func(scan func(...any) error) error {
			var n string
			err := scan(&n)
			ours[n] = true
			return err
		}, names, owners)
		if err != nil {
			return nil, err
		}
		var lost []string
		for _, n := range names {
			if !ours[n] {
				lost = append(lost, n)
			}
		}
		if len(lost) == 0 {
			break
		}
		err = t.query(ctx, sqlIdentLook, func(scan func(...any) error) error {
			var n, id string
			err := scan(&n, &id)
			taken[n] = id
			return err
		}, lost)
		if err != nil {
			return nil, err
		}
		var freed, by []string // between the two statements
		for i, n := range names {
			if !ours[n] && taken[n] == "" {
				freed, by = append(freed, n), append(by, owners[i])
			}
		}
		names, owners = freed, by
	}
	return ours, nil
}

// decideMet goes through rows in order, as if each were inserted before the next is looked at.
func decideMet(rows []job.Row, taken map[string]string, inUse map[string]bool) (same map[int]int, stored map[int]string) {
	same, stored = map[int]int{}, map[int]string{}
	byID, byName := map[string]int{}, map[string]int{}
	for i := range rows {
		r := &rows[i]
		if k, ok := byID[r.ID]; ok {
			r.Met, same[i] = "id", k
			continue
		}
		if inUse[r.ID] {
			r.Met, stored[i] = "id", r.ID
			continue
		}
		idents := identsOf(r)
		for _, n := range idents {
			if k, ok := byName[n.name]; ok {
				r.Met, same[i] = n.field, k
			} else if id := taken[n.name]; id != "" {
				r.Met, stored[i] = n.field, id
			} else {
				continue
			}
			break
		}
		if r.Met != "" {
			continue
		}
		byID[r.ID] = i
		for _, n := range idents {
			byName[n.name] = i
		}
	}
	return same, stored
}

// settleIdents gives the reserved names to the rows that are inserted and frees the rest.
func (t *tx) settleIdents(ctx context.Context, rows []job.Row, ours map[string]bool) error {
	var names, owners, free []string
	kept := map[string]bool{}
	for i := range rows {
		if rows[i].Met != "" {
			continue
		}
		for _, n := range identsOf(&rows[i]) {
			names, owners = append(names, n.name), append(owners, rows[i].ID)
			kept[n.name] = true
		}
	}
	for n := range ours {
		if !kept[n] {
			free = append(free, n)
		}
	}
	if len(free) > 0 {
		if _, err := t.exec(ctx, sqlIdentDrop, free); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := t.exec(ctx, sqlIdentGive, names, owners)
	return err
}

func (t *tx) answerMet(ctx context.Context, rows []job.Row, stored map[int]string) error {
	if len(stored) == 0 {
		return nil
	}
	var want []string
	for _, id := range stored {
		want = append(want, id)
	}
	slices.Sort(want)
	found, err := t.byID(ctx, slices.Compact(want))
	if err != nil {
		return err
	}
	for i, id := range stored {
		r, ok := found[id]
		if !ok {
			return errors.Join(errRaced, fmt.Errorf("postgres: job %s has just been deleted", id))
		}
		met := rows[i].Met
		rows[i] = r
		rows[i].Met = met
	}
	return nil
}
