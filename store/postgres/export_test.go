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
