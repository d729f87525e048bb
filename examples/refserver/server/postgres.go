package server

import (
	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/examples/refserver/cloud"
	"github.com/drover-cloud/drover/store/postgres"
)

const connections = 20 // of one node

func (c *Config) openPostgres() (cloud.DB, *bun.DB, error) {
	b, err := postgres.Open(c.DB, connections)
	if err != nil {
		return nil, nil, err
	}
	return postgres.New(b, postgres.Config{Env: c.Env}), b, nil
}
