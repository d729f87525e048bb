package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// figures are what a workload measured: per round, and single ones by name.
type figures struct {
	drover, alternative, limit []float64
	more                       map[string]float64
}

// bar bounds a figure: "ratio", "median" (of drover's rounds), or a name of figures.more.
type bar struct {
	figure string
	op     string // ">=" or "<="
	bound  float64
}

func (b bar) String() string {
	return fmt.Sprintf("%s %s %s", b.figure, b.op, strconv.FormatFloat(b.bound, 'f', -1, 64))
}

func (b bar) holds(v float64) bool {
	if b.op == "<=" {
		return v <= b.bound
	}
	return v >= b.bound
}

// row is a line of the table.
type row struct {
	ID          string             `json:"id"`
	Workload    string             `json:"workload"`
	Unit        string             `json:"unit"`
	Drover      []float64          `json:"drover"`
	Alternative []float64          `json:"alternative,omitempty"`
	Limit       []float64          `json:"limit,omitempty"`
	Ratio       float64            `json:"ratio,omitempty"`          // of medians; above 1 is better for drover
	Share       float64            `json:"share_of_limit,omitempty"` // of medians; 1 is the limit
	More        map[string]float64 `json:"more,omitempty"`
	Bar         string             `json:"bar"`
	Met         bool               `json:"met"`
	Error       string             `json:"error,omitempty"`
	Seconds     float64            `json:"seconds"`          // the whole workload took
	Other       float64            `json:"other_load_cores"` // at most, during a measurement that counts
}

// judge takes the figures and holds them against the bars; a bar on a figure that was not measured is missed.
func (r *row) judge(f figures, bars []bar) {
	r.Drover, r.Alternative, r.Limit, r.More = f.drover, f.alternative, f.limit, f.more
	r.Ratio, r.Share = r.over(f.alternative), r.over(f.limit)
	r.Met = true
	var texts []string
	for _, b := range bars {
		texts = append(texts, b.String())
		v, ok := f.more[b.figure]
		switch b.figure {
		case "ratio":
			v, ok = r.Ratio, len(f.alternative) > 0
		case "median":
			v, ok = median(f.drover), len(f.drover) > 0
		}
		r.Met = r.Met && ok && b.holds(v)
	}
	r.Bar = strings.Join(texts, ", ")
}

// over compares with another side so that above 1 is better for drover.
func (r *row) over(v []float64) float64 {
	switch {
	case len(v) == 0 || len(r.Drover) == 0:
		return 0
	case strings.HasSuffix(r.Unit, "/s"):
		return median(r.Drover) / median(v)
	}
	return median(v) / median(r.Drover)
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
