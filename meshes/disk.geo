// The unit disk in triangles, curved boundary approximated by straight edges.
SetFactory("OpenCASCADE");
Disk(1) = {0, 0, 0, 1};
Physical Surface("disk") = {1};        // only the triangles are saved: no points, no boundary lines
Mesh.MeshSizeMin = 0.1;
Mesh.MeshSizeMax = 0.1;
Mesh.Algorithm = 6;                    // frontal Delaunay
Mesh.MshFileVersion = 2.2;
Mesh.RandomSeed = 1;
