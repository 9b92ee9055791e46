// The unit disk in unstructured, straight-sided quadrilaterals.
SetFactory("OpenCASCADE");
Disk(1) = {0, 0, 0, 1};
Physical Surface("disk") = {1};
Mesh.MeshSizeMin = 0.1;
Mesh.MeshSizeMax = 0.1;
Mesh.Algorithm = 8;                    // frontal Delaunay for quadrilaterals
Mesh.RecombineAll = 1;
Mesh.RecombinationAlgorithm = 3;       // blossom, full quadrilaterals: no triangle is left over
Mesh.MshFileVersion = 2.2;
Mesh.RandomSeed = 1;
