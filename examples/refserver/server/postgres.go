package server

import (
	"errors"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
)

func (c *Config) openPostgres() (cloud.DB, *bun.DB, error) {
	return nil, nil, errors.New("PostgreSQL is not built in")
}
