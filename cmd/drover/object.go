package main

import (
	"strconv"
	"time"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

func itoa(n int) string { return strconv.Itoa(n) }

// The objects of the API.
type (
	stamp       = jobjson.Stamp
	entryObject = jobjson.Entry
)

func timeOf(s stamp) time.Time { return time.Time(s) }

// wholeOf is a job with everything.
func wholeOf(j *job.Job) jobjson.Job {
	o := jobjson.Of(j)
	o.Args, o.Result = jobjson.Payload(j.Args), jobjson.Payload(j.Result)
	return o
}

func entryOf(e job.Entry) entryObject {
	return entryObject{N: e.N, At: stamp(e.At), Node: e.Node, Text: e.Text, Failure: e.Failure, Data: jobjson.Payload(e.Data)}
}
