// Command hosttx submits a job in the host's own bun transaction: both or neither.
package main

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
)

func createVM(ctx context.Context, db *bun.DB, st *postgres.Store, jobs *job.Manager, vm any) error {
	return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(vm).Exec(ctx); err != nil {
			return err
		}
		_, err := jobs.SubmitTx(ctx, st.Join(tx), job.Request{Kind: "vm.start", Args: vm})
		return err
	})
}

func main() {}
