module tallycast.example/bench/counts

go 1.21
