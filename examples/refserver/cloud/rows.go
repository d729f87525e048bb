package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/store"
)

// base is what every row has. Version is the compare-and-set.
type base struct {
	ID      string `bun:"id,pk"`
	Created int64  `bun:"created"`
	Version int64  `bun:"version"`
}

type zoneRow struct {
	bun.BaseModel `bun:"table:rs_zone"`
	base
	Name string `bun:"name"`
}

type podRow struct {
	bun.BaseModel `bun:"table:rs_pod"`
	base
	Name string `bun:"name"`
	Zone string `bun:"zone"`
}

type clusterRow struct {
	bun.BaseModel `bun:"table:rs_cluster"`
	base
	Name string `bun:"name"`
	Pod  string `bun:"pod"`
}

type hostRow struct {
	bun.BaseModel `bun:"table:rs_host"`
	base
	Name      string `bun:"name"`
	Cluster   string `bun:"cluster"`
	Address   string `bun:"address"`
	CPUs      int64  `bun:"cpus"`
	MHz       int64  `bun:"mhz"`
	MemoryMiB int64  `bun:"memory_mib"`
}

type offeringRow struct {
	bun.BaseModel `bun:"table:rs_offering"`
	base
	Name      string `bun:"name"`
	CPUs      int64  `bun:"cpus"`
	MHz       int64  `bun:"mhz"`
	MemoryMiB int64  `bun:"memory_mib"`
}

type templateRow struct {
	bun.BaseModel `bun:"table:rs_template"`
	base
	Name    string `bun:"name"`
	Display string `bun:"display"`
	OS      string `bun:"os"`
	Zone    string `bun:"zone"`
	SizeMiB int64  `bun:"size_mib"`
	RootGiB int64  `bun:"root_gib"`
}

type networkRow struct {
	bun.BaseModel `bun:"table:rs_network"`
	base
	Name    string `bun:"name"`
	Zone    string `bun:"zone"`
	CIDR    string `bun:"cidr"`
	Gateway string `bun:"gateway"`
	First   string `bun:"first"`
	Last    string `bun:"last"`
}

type vmRow struct {
	bun.BaseModel `bun:"table:rs_vm"`
	base
	Seq      int64  `bun:"seq"`
	Name     string `bun:"name"`
	Display  string `bun:"display"`
	Account  string `bun:"account"`
	Zone     string `bun:"zone"`
	Template string `bun:"template"`
	Offering string `bun:"offering"`
	State    State  `bun:"state"`
	Host     string `bun:"host"`
	LastHost string `bun:"last_host"`
	Job      string `bun:"job"`    // that moves it, or moved it last
	Before   State  `bun:"before"` // state before Job moved it
	Group    string `bun:"group_name"`
	UserData string `bun:"user_data"`
	Details  string `bun:"details"` // JSON
	Updated  int64  `bun:"updated"`
}

type nicRow struct {
	bun.BaseModel `bun:"table:rs_nic"`
	base
	VM      string `bun:"vm"`
	Network string `bun:"network"`
	Address string `bun:"address"`
	MAC     string `bun:"mac"`
	Device  int64  `bun:"device"`
}

type volumeRow struct {
	bun.BaseModel `bun:"table:rs_volume"`
	base
	VM      string `bun:"vm"`
	Name    string `bun:"name"`
	State   string `bun:"state"`
	SizeMiB int64  `bun:"size_mib"`
}

// vm reads a machine; store.ErrNotFound if there is none.
func vmByID(ctx context.Context, q bun.IDB, id string) (*vmRow, error) {
	var v vmRow
	err := q.NewSelect().Model(&v).Where("id = ?", id).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("cloud: vm %s: %w", id, store.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("cloud: vm %s: %w", id, err)
	}
	return &v, nil
}

// save writes a machine that nobody else has written since it was read.
func (q *tx) save(ctx context.Context, v *vmRow) error {
	read := v.Version
	v.Version++
	v.Updated = q.now
	r, err := q.NewUpdate().Model(v).Where("id = ? AND version = ?", v.ID, read).Exec(ctx)
	if err != nil {
		return fmt.Errorf("cloud: vm %s: %w", v.ID, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("cloud: vm %s: %w", v.ID, errors.Join(store.ErrConflict, err))
	}
	return nil
}
