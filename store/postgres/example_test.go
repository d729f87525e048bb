package postgres_test

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store/postgres"
)

// A job that exists if, and only if, the host's own row does.
func ExampleStore_Join() {
	db, err := postgres.Open("postgres://app@localhost/cloud", 20)
	if err != nil {
		fmt.Println(err)
		return
	}
	store := postgres.New(db, postgres.Config{Schema: "drover"})
	jobs, err := job.New(job.Config{DB: store})
	if err != nil {
		fmt.Println(err)
		return
	}
	type start struct{ VM string }
	job.Declare[start, string](jobs, "vm.start")

	create := func(ctx context.Context, name string) error {
		return db.RunInTx(ctx, &sql.TxOptions{}, func(ctx context.Context, tx bun.Tx) error {
			if _, err := tx.NewRaw("INSERT INTO vm (name) VALUES (?)", name).Exec(ctx); err != nil {
				return err
			}
			_, err := jobs.SubmitTx(ctx, store.Join(tx), job.Request{Kind: "vm.start", Args: start{name}})
			return err
		})
	}
	_ = create
}
