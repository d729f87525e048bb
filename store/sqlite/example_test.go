package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	_ "modernc.org/sqlite" // the driver called "sqlite"

	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/store"
	"github.com/drover-cloud/drover/store/sqlite"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "drover")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	dsn, err := sqlite.DSN(filepath.Join(dir, "drover.db"))
	if err != nil {
		log.Fatal(err)
	}
	sqldb, err := sql.Open("sqlite", dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = sqldb.Close() }()
	st := sqlite.New(bun.NewDB(sqldb, sqlitedialect.New()), sqlite.Config{})
	if err := st.Migrate(ctx); err != nil {
		log.Fatal(err)
	}

	err = st.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		rows, err := st.Jobs().Insert(ctx, tx, []job.Row{{Job: job.Job{ID: "1", Kind: "vm.start", Queue: "default"}}})
		fmt.Println(rows[0].State)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: ready
}
