package cloud

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/uptrace/bun"

	"github.com/drover-cloud/drover/dispatch"
	"github.com/drover-cloud/drover/examples/refserver/csapi"
)

// pageOf reads the rows of a page and counts all matches; query is made anew for each.
func pageOf[R any](ctx context.Context, p csapi.Paging, query func() *bun.SelectQuery, order string, rows *[]R) (total int, err error) {
	offset, limit := p.Window()
	q := query().OrderExpr(order)
	if limit > 0 {
		q = q.Limit(int64(limit)).Offset(int64(offset))
	}
	if err := q.Scan(ctx); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("cloud: %w", err)
	}
	n := len(*rows)
	if n < limit && n > 0 || limit == 0 || n == 0 && offset == 0 { // this is the last page
		return offset + n, nil
	}
	all, err := query().Count(ctx)
	if err != nil {
		return 0, fmt.Errorf("cloud: %w", err)
	}
	return int(all), nil
}

// equals adds a condition for every value that is not empty.
func equals(q *bun.SelectQuery, values map[string]string) *bun.SelectQuery {
	for _, column := range slices.Sorted(maps.Keys(values)) {
		if values[column] != "" {
			q = q.Where("? = ?", bun.Ident(column), values[column])
		}
	}
	return q
}

// named adds a condition for an exact name, in any case.
func named(q *bun.SelectQuery, column, name string) *bun.SelectQuery {
	if name == "" {
		return q
	}
	return q.Where("lower(?) = ?", bun.Ident(column), strings.ToLower(name))
}

var likeText = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// like adds a condition for a keyword: part of one of the columns, in any case.
func like(q *bun.SelectQuery, keyword string, columns ...string) *bun.SelectQuery {
	if keyword == "" {
		return q
	}
	pattern := "%" + likeText.Replace(strings.ToLower(keyword)) + "%"
	return q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
		for _, c := range columns {
			q = q.WhereOr(`lower(?) LIKE ? ESCAPE '\'`, bun.Ident(c), pattern)
		}
		return q
	})
}

// unknownID refuses an id that found nothing.
func unknownID(found int, param, id string) error {
	if found > 0 || id == "" {
		return nil
	}
	return csapi.BadParam(param, dispatch.NoSuchEntity, id, "")
}
