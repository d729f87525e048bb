package postgres

import (
	"context"

	"github.com/drover-cloud/drover/store"
)

// ErrConflicting makes the server report a serialization failure.
func ErrConflicting(ctx context.Context, x store.Tx) error {
	_, err := x.(*tx).exec(ctx, `DO $$ BEGIN RAISE EXCEPTION 'told to' USING ERRCODE = '40001'; END $$`)
	return err
}

// Hot are the statements of the hot path, by name.
var Hot = map[string]string{
	"claim": claims[0][0], "claim from the head": claims[1][0], "claim oldest": claims[1][1], "claim by number": claims[2][0], "probe": sqlProbe, "finish": sqlFinish, "finish all": sqlFinishAll,
	"hand on": sqlHandOn, "hand on all": sqlHandOnAll, "hand on roomy": sqlHandOnRoomy, "seize": sqlSeize, "insert": sqlInsert, "insert one": sqlInsertOne, "lock pend": sqlLockPend, "lock active": sqlLockActive, "by id": sqlByID,
	"left": sqlLeft, "scheduled": source(srcScheduled, true, ""), "deadline": source(srcDeadline, true, ""), "cancel": rowsFrom(srcCancel, inOrder),
	"resources": rowsFrom(srcResources, ` WHERE s.part < 3 ORDER BY q.o LIMIT $1`), "retain": source(srcRetain, false, ""), "start": sqlStart,
}

// Explain is the plan of a statement, for these arguments or the one that serves all.
func Explain(ctx context.Context, s *Store, generic bool, q string, args ...any) (plan string, err error) {
	t, err := s.db.DB.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Rollback() }()
	if generic {
		if _, err := t.ExecContext(ctx, `SET LOCAL plan_cache_mode = force_generic_plan`); err != nil {
			return "", err
		}
	}
	err = scanAll(ctx, t, "EXPLAIN "+s.text(q), func(scan func(...any) error) error {
		var l string
		err := scan(&l)
		plan += l + "\n"
		return err
	}, args)
	return plan, err
}

// ExplainAnalyze ...
func ExplainAnalyze(ctx context.Context, s *Store, t queryer, q string, args ...any) (plan string, err error) {
	err = scanAll(ctx, t, "EXPLAIN (ANALYZE, BUFFERS, WAL, COSTS OFF, SUMMARY ON) "+s.text(q), func(scan func(...any) error) error {
		var l string
		err := scan(&l)
		plan += l + "\n"
		return err
	}, args)
	return plan, err
}
