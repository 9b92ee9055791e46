// The square [-1, 1]^2 in triangles that are small near the origin and large near the boundary.
SetFactory("OpenCASCADE");
Rectangle(1) = {-1, -1, 0, 2, 2};
Physical Surface("square") = {1};
Field[1] = MathEval;
Field[1].F = "0.04 + 0.14*Sqrt(x*x + y*y)";
Background Field = 1;
Mesh.MeshSizeExtendFromBoundary = 0;
Mesh.MeshSizeFromPoints = 0;
Mesh.Algorithm = 5;                    // Delaunay: follows a steep size field
Mesh.MshFileVersion = 2.2;
Mesh.RandomSeed = 1;
