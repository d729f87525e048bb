package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// Kinds of accounts, as CloudStack numbers them.
const (
	plainAccount = 0 // sees and touches only what is its own
	adminAccount = 1
)

type accountRow struct {
	bun.BaseModel `bun:"table:rs_account"`
	base
	Name     string `bun:"name"`
	Kind     int    `bun:"kind"`
	Domain   string `bun:"domain"`
	DomainID string `bun:"domain_id"`
}

type userRow struct {
	bun.BaseModel `bun:"table:rs_user"`
	base
	Name     string `bun:"name"`
	Account  string `bun:"account"`  // id
	Password string `bun:"password"` // "" = no login
}

// Caller is the user on whose behalf a command runs.
type Caller struct {
	UserID, Username   string
	AccountID, Account string
	DomainID, Domain   string
	Admin              bool
	Node               string // that took the request
}

// System is who the server's own work runs as.
var System = Caller{UserID: "system", Username: "system", AccountID: "system", Account: "system", Domain: "ROOT", Admin: true}

// Identity travels with the jobs of the caller's commands.
func (u Caller) Identity() map[string]string {
	roles := "user"
	if u.Admin {
		roles = "user,admin"
	}
	return map[string]string{
		"account": u.Account, "accountid": u.AccountID, "domain": u.Domain, "domainid": u.DomainID,
		"user": u.Username, "username": u.Username, "userid": u.UserID, "roles": roles, "node": u.Node,
	}
}

// CallerOf is who dispatched the command of ctx; the zero Caller, who may see nothing, outside of one.
func CallerOf(ctx context.Context) Caller {
	u, _ := dispatch.Caller(ctx).(Caller)
	return u
}

// sees tells whether a row of that account may be shown to the caller.
func (u Caller) sees(account string) bool { return u.Admin || account == u.AccountID }

// caller makes the Caller of a user.
func (c *Cloud) caller(ctx context.Context, q bun.IDB, user string) (Caller, error) {
	var u userRow
	var a accountRow
	err := q.NewSelect().Model(&u).Where("id = ?", user).Scan(ctx)
	if err == nil {
		err = q.NewSelect().Model(&a).Where("id = ?", u.Account).Scan(ctx)
	}
	if err != nil {
		return Caller{}, fmt.Errorf("cloud: user: %w", err)
	}
	return Caller{
		UserID: u.ID, Username: u.Name, AccountID: a.ID, Account: a.Name, DomainID: a.DomainID, Domain: a.Domain,
		Admin: a.Kind == adminAccount, Node: c.env.Node,
	}, nil
}

// User is the caller of that name; nil if there is none.
func (c *Cloud) User(ctx context.Context, name string) (any, error) {
	var u userRow
	err := c.bun.NewSelect().Model(&u).Where("name = ?", name).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cloud: user: %w", err)
	}
	return c.caller(ctx, c.bun, u.ID)
}

// restore makes the caller again when a job runs, with the rights of that day.
func (c *Cloud) restore(ctx context.Context, id map[string]string) (any, error) {
	if id["userid"] == System.UserID {
		return System, nil
	}
	u, err := c.caller(ctx, c.bun, id["userid"])
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("cloud: user %s is gone", id["user"])
	}
	u.Node = id["node"]
	return u, err
}

// User is a user as answers show it, never with a secret.
type User struct {
	ID          string     `json:"id"`
	Username    string     `json:"username"`
	Account     string     `json:"account"`
	AccountID   string     `json:"accountid"`
	Domain      string     `json:"domain"`
	DomainID    string     `json:"domainid"`
	FirstName   string     `json:"firstname"`
	LastName    string     `json:"lastname"`
	Email       string     `json:"email"`
	State       string     `json:"state"`
	AccountType int        `json:"accounttype"`
	Created     csapi.Time `json:"created"`
}

// ObjectName is the key of a list of them.
func (User) ObjectName() string { return "user" }

// Account is an account as answers show it.
type Account struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Domain      string     `json:"domain"`
	DomainID    string     `json:"domainid"`
	State       string     `json:"state"`
	AccountType int        `json:"accounttype"`
	IsDefault   bool       `json:"isdefault"`
	Created     csapi.Time `json:"created"`
}

// ObjectName is the key of a list of them.
func (Account) ObjectName() string { return "account" }

type listUsers struct {
	csapi.Paging
	ID       dispatch.UUID `param:"id,entity=user"`
	Username string        `param:"username"`
	Account  string        `param:"account"`
}

func (c *Cloud) listUsers(ctx context.Context, p listUsers) (out dispatch.Page[User], err error) {
	s, err := c.inv.fresh(ctx)
	if err != nil {
		return out, err
	}
	me := CallerOf(ctx)
	return listed(p.Paging, s.users, func(u userRow) bool {
		return me.sees(u.Account) && wanted(p.ID, u.ID) && namedAs(p.Username, u.Name) && namedAs(p.Account, s.account(u.Account).Name)
	}, func(u userRow) User {
		a := s.account(u.Account)
		return User{
			ID: u.ID, Username: u.Name, Account: a.Name, AccountID: a.ID, Domain: a.Domain, DomainID: a.DomainID,
			FirstName: u.Name, LastName: u.Name, State: "enabled", AccountType: a.Kind, Created: csapi.Time(at(u.Created)),
		}
	})
}

type listAccounts struct {
	csapi.Paging
	ID   dispatch.UUID `param:"id,entity=account"`
	Name string        `param:"name"`
}

func (c *Cloud) listAccounts(ctx context.Context, p listAccounts) (out dispatch.Page[Account], err error) {
	s, err := c.inv.fresh(ctx)
	if err != nil {
		return out, err
	}
	me := CallerOf(ctx)
	return listed(p.Paging, s.accounts, func(a accountRow) bool {
		return me.sees(a.ID) && wanted(p.ID, a.ID) && namedAs(p.Name, a.Name)
	}, func(a accountRow) Account {
		return Account{
			ID: a.ID, Name: a.Name, Domain: a.Domain, DomainID: a.DomainID, State: "enabled", AccountType: a.Kind,
			Created: csapi.Time(at(a.Created)),
		}
	})
}

// AddUser makes a user with an account of that name: an ordinary one, or an admin.
func (c *Cloud) AddUser(ctx context.Context, name string, admin bool) error {
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		root := c.inv.now().accounts[0]
		a := &accountRow{base: base{ID: c.env.NewID(), Created: q.now, Version: 1}, Name: name, Kind: plainAccount, Domain: root.Domain, DomainID: root.DomainID}
		if admin {
			a.Kind = adminAccount
		}
		if err := q.insert(ctx, a); err != nil {
			return err
		}
		return q.insert(ctx, &userRow{base: base{ID: c.env.NewID(), Created: q.now, Version: 1}, Name: name, Account: a.ID})
	})
}
