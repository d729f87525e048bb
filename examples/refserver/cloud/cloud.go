package cloud

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/flow"
	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/sim"
	"github.com/drover-cloud/drover/hypervisor/tracker"
	"github.com/drover-cloud/drover/job"
	"github.com/drover-cloud/drover/lease"
)

// vcpuRatio is how many virtual processors a processor is sold as.
const vcpuRatio = 4

// Config of a Cloud. Env.Node, DB, Bun, Seed and MasterKey are required.
type Config struct {
	Env       drover.Env
	DB        DB
	Bun       *bun.DB
	Seed      *Seed
	MasterKey *MasterKey
	DevKey    Credentials // accepted beside those stored; none if empty
	Hosts     []RealHost  // beside the simulated ones, and those known already
	SimHosts  int
	SimTimes  sim.Times
	SimFaults []SimFault
	RateLimit int           // requests per second of one key, as listCapabilities tells; 0 = none
	Expunge   time.Duration // after this, destroyed machines are removed for good
	Single    bool          // nodes follow one another, there is one at a time
	Migrate   bool          // make and update the tables; else they must be there
}

// Cloud is the domain on one node.
type Cloud struct {
	tables
	cfg     Config
	env     drover.Env
	inv     inventory
	master  *MasterKey
	keys    keyring
	hosts   drivers
	tracker *tracker.Tracker

	deployFlow, startFlow *flow.Flow[bringUp]
	moveFlow              *flow.Flow[move]

	link     *Link              // to the other nodes; nil = there is none
	registry *dispatch.Registry // made by Registry
	async    func() map[string]bool
	jobs     *job.Manager
	session  *lease.Session
}

func blank(cfg Config) *Cloud {
	c := &Cloud{cfg: cfg, env: cfg.Env.Defaults(), tables: tables{db: cfg.DB, bun: cfg.Bun}, master: cfg.MasterKey}
	c.inv.t = &c.tables
	return c
}

// OpenAccounts is for users and their keys only, in a database that is up to date.
func OpenAccounts(ctx context.Context, cfg Config) (*Cloud, error) {
	c := blank(cfg)
	if err := c.migrate(ctx, false); err != nil {
		return nil, err
	}
	_, err := c.inv.fresh(ctx)
	return c, err
}

// Open brings tables, seed and hosts into place. What cannot work is told in one line.
func Open(ctx context.Context, cfg Config) (*Cloud, error) {
	c := blank(cfg)
	c.hosts = drivers{t: &c.tables, open: c.opens, by: map[string]hypervisor.Driver{}}
	if err := c.migrate(ctx, cfg.Migrate); err != nil {
		return nil, err
	}
	if err := c.plant(ctx, cfg.Seed, cfg.SimHosts, c.env.NewID); err != nil {
		return nil, err
	}
	if err := c.register(ctx, cfg.Hosts); err != nil {
		return nil, err
	}
	if err := c.join(ctx, c.env.Node, cfg.Seed.ManagementServer, cfg.Single, c.env.NewID); err != nil {
		return nil, err
	}
	if _, err := c.inv.fresh(ctx); err != nil {
		return nil, err
	}
	var err error
	c.tracker, err = tracker.New(tracker.Config{
		Env: c.env, Tx: cfg.DB, Store: cfg.DB.Tracker(), Hosts: c.audited, Reserved: &tracker.Amount{},
		Ratios: map[string]float64{tracker.VCPUs: vcpuRatio},
	})
	if err != nil {
		return nil, err
	}
	if _, err := c.tracker.Step(ctx); err != nil { // capacities, before anything is placed
		return nil, err
	}
	c.flows()
	return c, nil
}

// Admin gives the key of the first user; it is made once.
func (c *Cloud) Admin(ctx context.Context) (Credentials, error) {
	k, err := c.UserKey(ctx, c.inv.now().users[0].Name, false)
	if err != nil {
		return k, err
	}
	return k, c.loadKeys(ctx)
}

// Tracker audits hosts; run it.
func (c *Cloud) Tracker() *tracker.Tracker { return c.tracker }

// ManagementServer names the server of a node.
func (c *Cloud) ManagementServer(ctx context.Context, node string) (id, name string) {
	if node == "" {
		return "", ""
	}
	s, err := c.inv.having(ctx, func(s *stock) bool { id, name = s.server(node); return id != "" }) // one may have joined after us
	if err != nil {
		return "", ""
	}
	return s.server(node)
}
