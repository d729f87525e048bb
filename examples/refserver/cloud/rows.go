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
	URL       string `bun:"url"` // how libvirt is reached; "" = simulated

	State      ResourceState `bun:"resource_state"`
	Disabled   bool          `bun:"disabled"` // by the operator
	Tags       string        `bun:"tags"`
	Annotation string        `bun:"annotation"`
	Job        string        `bun:"job"` // that changes State, or changed it last
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
	Target   string `bun:"target"` // of a move under way
	Job      string `bun:"job"`    // that moves it, or moved it last
	Before   State  `bun:"before"` // state before Job moved it
	Group    string `bun:"group_name"`
	UserData string `bun:"user_data"` // sealed
	Details  string `bun:"details"`   // JSON
	HAEnable bool   `bun:"ha_enable"`
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

// vmByID reads a machine; store.ErrNotFound if there is none.
func vmByID(ctx context.Context, q bun.IDB, id string) (*vmRow, error) {
	return rowByID(ctx, q, "vm", id, new(vmRow))
}

// hostByID reads a host; store.ErrNotFound if there is none.
func hostByID(ctx context.Context, q bun.IDB, id string) (*hostRow, error) {
	return rowByID(ctx, q, "host", id, new(hostRow))
}

func rowByID[R any](ctx context.Context, q bun.IDB, what, id string, row *R) (*R, error) {
	err := q.NewSelect().Model(row).Where("id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("cloud: %s %s: %w", what, id, err)
	}
	return row, nil
}

// save writes a machine that nobody else has written since it was read.
func (q *tx) save(ctx context.Context, v *vmRow) error {
	v.Updated = q.now
	return saveRow(ctx, q, v, &v.base)
}

// saveHost writes a host that nobody else has written since it was read.
func (q *tx) saveHost(ctx context.Context, h *hostRow) error { return saveRow(ctx, q, h, &h.base) }

// saveRow is the compare-and-set; b is the row's.
func saveRow(ctx context.Context, q *tx, row any, b *base) error {
	read := b.Version
	b.Version++
	r, err := q.NewUpdate().Model(row).Where("id = ? AND version = ?", b.ID, read).Exec(ctx)
	if err != nil {
		return fmt.Errorf("cloud: %s: %w", b.ID, err)
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("cloud: %s: %w", b.ID, errors.Join(store.ErrConflict, err))
	}
	return nil
}
