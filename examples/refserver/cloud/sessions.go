package cloud

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

const (
	rounds      = 600_000 // of PBKDF2
	sessionIdle = 30 * time.Minute
	sessionLife = 12 * time.Hour
	touchEvery  = 10 * time.Second // how exactly a session's last use is kept
)

// hashed is what is kept of a password.
func hashed(password string, salt []byte) string {
	key, err := pbkdf2.Key(sha256.New, password, salt, rounds, 32)
	if err != nil {
		return "" // no password has this hash
	}
	return base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(key)
}

// SetPassword lets a user log in.
func (c *Cloud) SetPassword(ctx context.Context, user, password string) error {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	return c.in(ctx, func(ctx context.Context, q *tx) error {
		n, err := q.exec(ctx, `UPDATE rs_user SET password = ?, version = version + 1 WHERE name = ?`, hashed(password, salt), user)
		if err == nil && n == 0 {
			err = fmt.Errorf("cloud: user %q: %w", user, sql.ErrNoRows)
		}
		return err
	})
}

// Login opens a session, or gives no caller: whatever is wrong takes the same time.
func (c *Cloud) Login(ctx context.Context, user, password, domain string) (s csapi.Session, err error) {
	var row userRow
	err = c.bun.NewSelect().Model(&row).Where("name = ?", user).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("cloud: login: %w", err)
	}
	text, _, _ := strings.Cut(row.Password, "$")
	salt, _ := base64.RawStdEncoding.DecodeString(text)
	right := subtle.ConstantTimeCompare([]byte(hashed(password, salt)), []byte(row.Password)) == 1
	if row.Password == "" || !right {
		return s, nil
	}
	caller, err := c.caller(ctx, c.bun, row.ID)
	if err != nil || domain != "" && domain != "/" && !strings.EqualFold(strings.Trim(domain, "/"), caller.Domain) {
		return s, err
	}
	s = csapi.Session{Caller: caller, ID: token(), Key: base64.RawURLEncoding.EncodeToString(secret()[:20])}
	now := c.env.Clock.Now().UnixMicro()
	return s, c.write(ctx, `INSERT INTO rs_session (id, token, owner, created, seen) VALUES (?, ?, ?, ?, ?)`,
		digest(s.ID), digest(s.Key), caller.UserID, now, now)
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// Resume gives the caller of a live session, nil if there is none. A wrong key ends it.
func (c *Cloud) Resume(ctx context.Context, id, key string) (any, error) {
	var row struct {
		Token   string `bun:"token"`
		Owner   string `bun:"owner"`
		Created int64  `bun:"created"`
		Seen    int64  `bun:"seen"`
	}
	err := c.bun.NewRaw(`SELECT token, owner, created, seen FROM rs_session WHERE id = ?`, digest(id)).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cloud: session: %w", err)
	}
	now := c.env.Clock.Now()
	right := subtle.ConstantTimeCompare([]byte(row.Token), []byte(digest(key))) == 1
	if !right || now.Sub(at(row.Seen)) > sessionIdle || now.Sub(at(row.Created)) > sessionLife {
		return nil, c.Logout(ctx, id)
	}
	if now.Sub(at(row.Seen)) > touchEvery {
		if err := c.write(ctx, `UPDATE rs_session SET seen = ? WHERE id = ?`, now.UnixMicro(), digest(id)); err != nil {
			return nil, err
		}
	}
	caller, err := c.caller(ctx, c.bun, row.Owner)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return caller, err
}

// Logout ends a session, if there is one, and those that are over.
func (c *Cloud) Logout(ctx context.Context, id string) error {
	now := c.env.Clock.Now()
	return c.write(ctx, `DELETE FROM rs_session WHERE id = ? OR seen < ? OR created < ?`,
		digest(id), now.Add(-sessionIdle).UnixMicro(), now.Add(-sessionLife).UnixMicro())
}
