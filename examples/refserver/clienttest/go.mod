module github.com/drover-cloud/drover/examples/refserver/clienttest

go 1.26.0

require github.com/apache/cloudstack-go/v2 v2.19.0

require github.com/drover-cloud/drover v0.0.0

require (
	github.com/jackc/pgpassfile v1.0.0 // indirect
	github.com/jackc/pgservicefile v0.0.0-20240606120523-5a60cdf6a761 // indirect
	github.com/jackc/pgx/v5 v5.12.0 // indirect
	go.uber.org/mock v0.5.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)

replace github.com/drover-cloud/drover => ../../../
