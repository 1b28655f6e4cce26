module tallycast.example/bench/maps

go 1.21
